# flash-linear-attention on a CPU, unchanged: with the module flash_kda installed, chunk_kda calls it when grad is off.
import torch
from fla.ops.kda import chunk_kda

import flash_kda

T, H, K = 512, 4, 128
q, k, v, g = (torch.randn(1, T, H, K, dtype=torch.bfloat16) for _ in range(4))
beta, A_log, dt_bias = torch.randn(1, T, H, dtype=torch.bfloat16), torch.randn(H), torch.randn(H * K)
with torch.no_grad():
    out, state = chunk_kda(q, k, v, g, beta, A_log=A_log, dt_bias=dt_bias, lower_bound=-5.0, output_final_state=True, safe_gate=True,
                           use_gate_in_kernel=True, use_qk_l2norm_in_kernel=True, use_beta_sigmoid_in_kernel=True, state_v_first=True)  # fmt: skip
print(f"out {tuple(out.shape)}, final state {tuple(state.shape)}")
# Empty if flash_kda was not called; README.md lists when it is. `python -m flash_kda` shows what it could run on.
print("answered by", f"flash_kda, {flash_kda.last_plan()}" if flash_kda.last_plan() else "flash-linear-attention itself")
