"""Kimi Delta Attention in float64, token by token, as the paper writes it: what every test here compares with."""

import itertools

import torch


def log_decay(g, A_log, dt_bias, lower_bound):
    """log a [B,T,HV,K] of the bounded gate, or of the softplus gate when lower_bound is None."""
    HV, K = g.shape[2:]
    rate = torch.ones(HV, 1, dtype=torch.float64, device=g.device) if A_log is None else A_log.detach().double().reshape(HV, 1).exp()
    x = g.double() + (0 if dt_bias is None else dt_bias.detach().double().reshape(HV, K))
    if lower_bound is None:
        return -rate * torch.nn.functional.softplus(x)
    return lower_bound * torch.sigmoid(rate * x)


def _tokens(q, k, v, log_a, b, scale, S, out):
    """One run of tokens for all batch rows and value heads: q, k, log_a [B,T,HV,K], v [B,T,HV,V], b [B,T,HV], S [B,HV,V,K]."""
    a = log_a.exp()
    for t in range(q.shape[1]):
        S = S * a[:, t, :, None, :]
        u = b[:, t, :, None] * (v[:, t] - (S @ k[:, t, :, :, None])[..., 0])
        S = S + u[..., None] * k[:, t, :, None, :]
        out[:, t] = scale * (S @ q[:, t, :, :, None])[..., 0]
    return S


@torch.no_grad()
def recurrence(
    q, k, v, g, beta, scale, A_log, dt_bias, lower_bound, initial_state=None, cu_seqlens=None,
    gate="logit", beta_kind="logit", beta_multiplier=1, qk_norm="l2", state_layout="nhvk",
):  # fmt: skip
    """out [B,T,HV,V] and final state [N,HV,V,K], or [N,HV,K,V] where state_layout says so, in float64."""
    if state_layout == "nhkv":
        initial_state = None if initial_state is None else initial_state.transpose(-1, -2)
        out, state = recurrence(
            q, k, v, g, beta, scale, A_log, dt_bias, lower_bound, initial_state, cu_seqlens, gate, beta_kind, beta_multiplier, qk_norm
        )
        return out, state.transpose(-1, -2)
    (B, T, H, K), (HV, V) = q.shape, v.shape[2:]
    norm = lambda x: (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() if qk_norm == "l2" else 1.0
    q, k = ((x.double() / norm(x.double())).repeat_interleave(HV // H, dim=2) for x in (q, k))
    v, b = v.double(), beta_multiplier * (beta.double() if beta_kind == "activated" else torch.sigmoid(beta.double()))
    log_a = g.double() if gate == "precomputed" else log_decay(g, A_log, dt_bias, lower_bound)
    bounds = [(n, 0, T) for n in range(B)]
    if cu_seqlens is not None:
        bounds = [(0, *pair) for pair in itertools.pairwise(cu_seqlens.tolist())]
    S0 = torch.zeros(len(bounds), HV, V, K, dtype=torch.float64, device=q.device) if initial_state is None else initial_state.double()
    out = torch.zeros(B, T, HV, V, dtype=torch.float64, device=q.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one token is too little work to share
    try:
        final = [
            _tokens(*(x[row, begin:end][None] for x in (q, k, v, log_a, b)), scale, S0[n][None], out[row, begin:end][None])
            for n, (row, begin, end) in enumerate(bounds)
        ]
    finally:
        torch.set_num_threads(threads)
    return out, torch.cat([S0[:0], *final])


def relative_rms(answer, truth):
    """sqrt(mean((answer - truth)^2) / mean(truth^2)), in float64; 0 for tensors without elements."""
    if truth.numel() == 0:
        return 0.0
    error = (answer.double() - truth).square().mean().sqrt()
    return (error / truth.square().mean().sqrt().clamp_min(1e-30)).item()
