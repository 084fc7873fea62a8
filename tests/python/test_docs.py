"""The Python of pages about other projects runs as it stands there. Packages of integrations/ are on the path, as if they were installed."""

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
