"""tools/report: charts start at zero, text of a picture does not overlap, and figures follow the sources."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "report"))
import charts  # noqa: E402
import figures  # noqa: E402
import report  # noqa: E402
import sources  # noqa: E402
import svg  # noqa: E402


@pytest.mark.parametrize("script", ["figures.py", "report.py"])
def test_what_is_committed_is_what_the_script_writes(script):
    done = subprocess.run([sys.executable, ROOT / "tools" / "report" / script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_figure_follows_the_sources(tmp_path, monkeypatch):
    shutil.copytree(sources.CUDA, tmp_path / "cuda")
    config = tmp_path / "cuda/prefill_sm90/mapping/duo_config.cuh"
    config.write_text(config.read_text().replace("kChainRegisters = 208", "kChainRegisters = 200"))
    monkeypatch.setattr(sources, "CUDA", tmp_path / "cuda")
    drawn = {f"{name}.svg": draw(sources.kernel()) for name, draw in figures.FIGURES.items()}
    assert list(figures.differences(drawn)) == ["docs/figures/mappings.svg is not what tools/report/figures.py draws"]


def test_each_of_our_kernels_beside_its_peers():
    facts = dict(gates="slow", T=8192, N=1, hbm_fraction=0.5, hbm_floor_ms=0.2, out_from_flashkda=1e-3)
    facts.update(gpu="a GPU", driver="1", sm_mhz=1980, commit="c", method="m", runs=3)
    line = lambda suite, case, H, who, time: dict(facts, suite=suite, case=case, H=H, who=who, median_ms=time)
    rows = [line("seed", "T8192 H96 fixed", 96, who, time) for who, time in (("flashkda", 0.4), ("flashkda-mma", 0.8), ("fla", 2.4))]
    rows += [line("shapes", "T8192 H7", 7, who, time) for who, time in (("flashkda", 0.1), ("flashkda-mma", 0.3), ("fla", 0.6))]
    baselines = dict(rows=[dict(T=8192, H=96, seq_lens=[8192], flashkda_ms=1.6)], flashkda="f", gpu="g", driver="d", date="t", method="m")
    page = "\n".join(report.peers_section(rows, baselines))
    assert "| T8192 H96 fixed | slow channels | 0.400 | 50 % | 0.800 | 2.400 | 6.0x | 3.0x | 1.600 | 4.0x | 2.0x |" in page
    assert "### Suite shapes" in page and "| T8192 H7 | slow channels | 0.100 | 50 % | 0.300 | 0.600 | 6.0x | 2.0x |  |  |  |" in page
    assert "6.00x faster than FLA in the same run, 4.00x faster than FlashKDA's" in page and "portable kernel 3.00x faster than FLA" in page
    assert "portable kernel" in report.draw_peers(rows, baselines)


def test_layouts_are_those_that_the_sources_assert():
    kernel = sources.kernel()
    assert kernel["shared"].size("Stage") == 29 * 1024
    assert kernel["quad"].kRelayBytesOfPreparer == kernel["plan"].FKDAI_RELAY_BYTES
    assert kernel["solo"].size("Smem") <= 232448 - 1024
    for name, stages in (("quad", 6), ("octet", 6)):    # a template for each shape
        assert kernel[name].member("ChainSmem", "stages")[1] == stages * 29 * 1024
        assert kernel[name].size("Smem") <= kernel["duo"].size("Smem") and kernel[name].size("ChainSmem") <= kernel["duo"].size("Smem")
    assert kernel["octet"].member("Smem", "chunk_infos")[1] == 2 * kernel["quad"].member("Smem", "chunk_infos")[1]


def test_bars_are_as_long_as_their_values():
    text = charts.lying_bars("title", "subtitle", "axis", [("group", [("a", "flashkda", 100, ""), ("b", "plain", 300, "")])], [])
    lengths = [float(width) for width in re.findall(r'<rect class="f-(?:flashkda|plain)" [^>]*width="([\d.]+)"', text)]
    assert len(lengths) == 2 and lengths[1] == pytest.approx(3 * lengths[0], rel=1e-2)
    assert charts.nice_ticks(0.41)[0] == 0 and charts.nice_ticks(0.41)[-1] >= 0.41


def test_text_that_overlaps_or_leaves_the_picture_is_an_error():
    drawing = svg.Drawing(200, 100, "test")
    drawing.text(10, 50, "first")
    with pytest.raises(AssertionError, match="overlaps 'first'"):
        drawing.text(20, 52, "second")
    with pytest.raises(AssertionError, match="leaves the picture"):
        drawing.text(180, 80, "a long line")
    with pytest.raises(AssertionError, match="at least 11"):
        drawing.text(10, 90, "small", size=9)


def test_both_modes_have_every_colour():
    drawing = svg.Drawing(200, 100, "test")
    drawing.text(10, 50, "text", color="chain")
    light, dark = svg.PALETTE["chain"]
    text = drawing.render()
    assert re.search(rf"\.f-chain{{fill:{light}}}.*@media \(prefers-color-scheme: dark\){{.*\.f-chain{{fill:{dark}}}", text, re.S)
