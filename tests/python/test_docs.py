"""The Python of pages about other projects runs as it stands there. Packages of integrations/ are on the path, as if they were installed.
Links lead somewhere, and docs/README.md to every page."""

import pathlib
import re

import pytest
import torch

from conftest import LONG

ROOT = pathlib.Path(__file__).parents[2]
COMPILE = "with-torch-compile"
PAGES = (COMPILE, "with-sglang", "with-vllm")


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG if name == COMPILE else ()) for name in PAGES])
def test_snippets(name, monkeypatch):
    for package in ("sglang", "vllm"):
        monkeypatch.syspath_prepend(ROOT / "integrations" / package)
    page, names = ROOT / f"docs/{name}.md", {}
    for snippet in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S):
        exec(compile(snippet, page.name, "exec"), names)
    if name == "with-vllm":
        assert torch.isfinite(names["out"]).all() and names["checkpoint"][0].any()
    if name == "with-sglang":
        assert names["out"].shape == (3, 1, 2, 128) and not names["out"][1].any() and names["pool"][5].any()


def links(page):
    """The files that a page links to."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    targets = (target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose))
    return {(page.parent / target).resolve() for target in targets if target and "://" not in target}


def test_links():
    pages = [page for folder in ("docs", "src", "integrations") for page in (ROOT / folder).rglob("*.md")]
    pages += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    missing = [f"{page.relative_to(ROOT)}: {file}" for page in pages for file in links(page) if not file.exists()]
    assert not missing and len(pages) > 40
    unlisted = set((ROOT / "docs").glob("*.md")) - links(ROOT / "docs/README.md") - {ROOT / "docs/README.md"}
    assert not unlisted
