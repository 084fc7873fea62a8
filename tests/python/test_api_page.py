"""tools/report/api.py: the page has every public name, says what the sources say, and a name without words of its own is found."""

import pathlib
import re
import shutil
import sys

import pytest

import flash_kda

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools/report"))
import api  # noqa: E402


@pytest.fixture
def tree(tmp_path):
    for folder in ("include", "python/flash_kda"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def change(tree, file, old, new):
    text = (tree / file).read_text()
    assert text.count(old) == 1
    (tree / file).write_text(text.replace(old, new))


def test_page_is_what_the_sources_say(tree):
    page = api.page(tree)
    assert (ROOT / "docs/api.md").read_text() == page
    change(tree, "include/flashkda.h", "Scratch that desc needs;", "Scratch that a desc needs;")
    assert api.page(tree) == page.replace("Scratch that desc needs;", "Scratch that a desc needs;") != page


def test_every_name_has_its_heading():
    page = (ROOT / "docs/api.md").read_text()
    headings = re.findall(r"^#### (.*)$", page, re.M)
    declared = re.findall(r"\b(fkda_\w+)\(", re.sub(r"/\*.*?\*/", "", (ROOT / "include/flashkda.h").read_text(), flags=re.S))
    assert len(declared) > 25 and set(declared) <= {name for heading in headings for name in heading.split(", ")}
    assert {f"flash_kda.{name}" for name in flash_kda.__all__ if name != "__version__"} <= set(headings)
    for link in re.findall(r"\]\(#([^)]*)\)", page):
        assert link in {api.anchor(heading.lstrip("# ")) for heading in re.findall(r"^#.*$", page, re.M)}


@pytest.mark.parametrize("file,old,new,sentence", [
    ("include/flashkda.h", "/* Who runs the plan; FKDA_BACKEND_AUTO if it is not a plan. */\n", "", "fkda_plan_backend has no comment"),
    ("python/flash_kda/__init__.py", '    """Who could compute on', '    "" or """Who could compute on', "flash_kda.backends has no docstring"),
    ("python/flash_kda/fla.py", '"explain", "may_round"', '"explains", "may_round"', "flash_kda.fla: what is explains?"),
])  # fmt: skip
def test_a_name_without_words_is_found(tree, file, old, new, sentence):
    change(tree, file, old, new)
    with pytest.raises(SystemExit, match=re.escape(sentence)):
        api.page(tree)
