"""The words of fwd, decode and decode_fused that say what g, beta, q, k and states mean, against the float64 recurrence."""

import itertools

import pytest
import torch

import flash_kda
from bars import bar
from recurrence import recurrence, relative_rms

pytestmark = pytest.mark.usefixtures("no_grad")
BF16 = torch.bfloat16
WORDS = dict(gate="precomputed", beta_kind="activated", beta_multiplier=2, qk_norm="none", state_layout="nhkv")
SUBSETS = [*({name: word} for name, word in WORDS.items()), WORDS, {k: v for k, v in WORDS.items() if k != "beta_multiplier"}]
WIDTHS = [(128, 128), (64, 128)]  # K != V: a layout that is taken for the other has another shape
ids = lambda words: "+".join(words)


def fit(p, words):
    """The problem with inputs that mean something under these words; states with other numbers in every place."""
    random = torch.Generator().manual_seed(11)
    if words.get("gate") == "precomputed":
        p.update(g=-torch.rand(p["g"].shape, generator=random).pow(3) * 3, A_log=None, dt_bias=None, lower_bound=None)
    if words.get("beta_kind") == "activated":
        p["beta"] = torch.rand(p["beta"].shape, generator=random) / words.get("beta_multiplier", 1)
    if words.get("qk_norm") == "none":
        p.update({x: torch.nn.functional.normalize(p[x].float(), dim=-1).to(p[x].dtype) for x in ("q", "k")})
    if words.get("state_layout") == "nhkv":
        for name in ("initial_state", "final_state"):
            p[name] = p[name].transpose(-1, -2).contiguous()
    p.update(words)
    return p


@pytest.mark.parametrize("words", SUBSETS, ids=ids)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_fwd(problem, words, widths, road):
    for shape in (dict(B=2, T=5), dict(lens=[0, 33, 1])):
        p = problem(H=2, HV=4, K=widths[0], V=widths[1], **shape)
        fit(p, words).check()


@pytest.mark.parametrize("words", SUBSETS, ids=ids)
def test_decode(problem, words, road):
    p = fit(problem(B=3, T=2, H=2, HV=4), words)
    want_out, want_state = p.truth()
    p.pop("final_state")
    p["state"] = p.pop("initial_state").clone()
    flash_kda.decode(**p)
    assert relative_rms(p["out"], want_out) <= bar("stored", "bf16").out and relative_rms(p["state"], want_state) <= bar("f32", "any").state


@pytest.mark.parametrize("words", SUBSETS, ids=ids)
def test_decode_fused(problem, words):
    """Without convolution and norm it is the step alone."""
    p = fit(problem(B=3, T=1, H=2), words)
    want_out, want_state = p.truth()
    p.pop("final_state")
    p["state"] = p.pop("initial_state").clone()
    flash_kda.decode_fused(**p)
    assert relative_rms(p["out"], want_out) <= bar("stored", "bf16").out and relative_rms(p["state"], want_state) <= bar("f32", "any").state


def test_k_first_pools_and_checkpoints(problem):
    """The bits of the other layout, transposed: initial and final slots, checkpoints in rows and in a pool."""
    p = problem(lens=[40, 0, 21], K=64, V=128)
    flip = lambda x: x.transpose(-1, -2).contiguous()
    results = []
    for layout, turn in (("nhvk", lambda x: x), ("nhkv", flip)):
        pool, rows = turn(torch.full((5, 2, 128, 64), 7.0)), turn(torch.full((6, 2, 128, 64), 7.0))
        pool[[3, 0, 2]] = turn(p["initial_state"])
        flash_kda.fwd(
            **{**p, "initial_state": pool, "final_state": pool}, initial_slots=torch.tensor([3, 0, 2]), final_slots=torch.tensor([1, 4, 2]),
            checkpoint_state=rows, checkpoint_every=16, checkpoint_slots=torch.tensor([5, -1, 1]), state_layout=layout,
        )  # fmt: skip
        results.append((turn(pool), turn(rows), p["out"].clone()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert (results[0][1][[0, 2, 3, 4]] == 7).all() and not (results[0][1][[1, 5]] == 7).any()


def test_k_first_through_copies(problem):
    """float16 and strides that no kernel takes: a copy stands in, in the layout that was said."""
    p = fit(problem(B=2, T=9, K=64, V=128), dict(state_layout="nhkv"))
    p["initial_state"], p["q"] = p["initial_state"].half(), p["q"].half()
    p["final_state"] = torch.full((2, 2, 128, 64), float("nan")).transpose(-1, -2)
    p.check()


def test_step_states_k_first(problem):
    p = problem(B=2, T=3, K=64, V=128)
    call = {name: x for name, x in p.items() if name not in ("initial_state", "final_state")}
    steps = [torch.zeros(2, 3, 2, 128, 64), torch.zeros(2, 3, 2, 64, 128)]
    flash_kda.decode(**call, state=p["initial_state"].clone(), step_states=steps[0])
    k_first = p["initial_state"].transpose(-1, -2).contiguous()
    flash_kda.decode(**call, state=k_first, step_states=steps[1], state_layout="nhkv")
    assert relative_rms(steps[1].transpose(-1, -2), steps[0].double()) < 1e-6 and steps[0].any()


def test_decay_above_zero_counts_as_zero(problem):
    p = fit(problem(T=6), dict(gate="precomputed"))
    p["g"][:, 3] = 0.25
    q = {**p, "g": p["g"].clamp_max(0), "out": p["out"].clone(), "final_state": p["final_state"].clone()}
    p.run()
    flash_kda.fwd(**q)
    assert torch.equal(p["out"], q["out"]) and torch.equal(p["final_state"], q["final_state"])


LISTS = dict(gate="'logit' or 'precomputed'", beta_kind="'logit' or 'activated'", qk_norm="'l2' or 'none'", state_layout="'nhvk' or 'nhkv'")


@pytest.mark.parametrize("name", LISTS)
def test_words_that_are_not_known(problem, name):
    p = problem(T=3)
    before = p["out"].clone()
    for word, error in (("never", ValueError), ("", ValueError), (1, TypeError), (b"l2", TypeError)):
        with pytest.raises(error, match=f"{name} is {word!r}, but it must be {LISTS[name]}"):
            flash_kda.fwd(**p, **{name: word})
    flash_kda.fwd(**p, **{name: "".join([*LISTS[name].split("'")[1]])})  # an equal string that is not the same object
    assert not torch.equal(p["out"].nan_to_num(9.0), before.nan_to_num(9.0))


@pytest.mark.parametrize("value,error", [(0, ValueError), (3, ValueError), (2**70, ValueError), (2.0, TypeError), ("2", TypeError)])
def test_multipliers_that_are_not_taken(problem, value, error):
    with pytest.raises(error, match=r"beta_multiplier is .*, but it must be the int 1 or 2"):
        flash_kda.fwd(**problem(T=3), beta_multiplier=value)


def test_a_precomputed_gate_has_no_parameters(problem):
    p = fit(problem(T=3), dict(gate="precomputed"))
    for name, value in (("lower_bound", -5.0), ("A_log", torch.zeros(2)), ("dt_bias", torch.zeros(2, 128))):
        with pytest.raises((ValueError, TypeError), match=name):
            flash_kda.fwd(**{**p, name: value})


def test_shapes_say_the_layout(problem):
    p = problem(T=3, K=64, V=128)
    with pytest.raises(ValueError, match=r"initial_state has shape \(1, 2, 128, 64\), but it must be \[N,HV,K,V\] = \(1, 2, 64, 128\)"):
        flash_kda.fwd(**p, state_layout="nhkv")


def test_queries(problem):
    """What fwd would say, without a run: copies, none, or its exception."""
    p = problem(T=3)
    names = ["q", "k", "v", "g", "beta", "scale", "out", "A_log", "dt_bias", "lower_bound", "initial_state", "final_state", "cu_seqlens"]
    ask = lambda **changes: flash_kda._core.query(*({**p, **changes}.get(name) for name in names))
    assert ask() == {} and ask(out=p["v"]) == {} and ask(q=p["q"].half()) == {0: torch.float32}
    assert p["out"].isnan().all() and p["final_state"].isnan().all()
    for change, error in (({"k": p["k"][..., :64]}, ValueError), ({"beta": p["beta"].int()}, TypeError), ({"lower_bound": -7.0}, ValueError)):
        with pytest.raises(error):
            ask(**change)
    with torch.enable_grad(), pytest.raises(RuntimeError, match="v requires grad"):
        ask(v=p["v"].clone().requires_grad_())


def test_every_combination(problem):
    for mask in itertools.product((False, True), repeat=len(WORDS)):
        words = {name: word for (name, word), chosen in zip(WORDS.items(), mask, strict=True) if chosen}
        p = fit(problem(T=5, H=1, HV=1, K=64, V=64), words)
        out, state = recurrence(**{name: x for name, x in p.items() if name not in ("out", "final_state")})
        p.run()
        assert relative_rms(p["out"], out) <= bar("stored", "bf16").out and relative_rms(p["final_state"], state) <= bar("f32", "any").state
