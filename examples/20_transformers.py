# Kimi Linear and GLM-5.3 in transformers: with `import flash_kda.fla` their KDA layers run on flash_kda, on CPUs too. Small random models show it.
import argparse
import contextlib
import inspect
import sys
import time

import torch
from transformers import Glm5NextConfig, Glm5NextForConditionalGeneration, KimiLinearConfig, KimiLinearForCausalLM
from transformers.utils import logging

import flash_kda.fla  # the one line

SIZES = dict(
    vocab_size=512, hidden_size=256, intermediate_size=512, moe_intermediate_size=128, num_hidden_layers=4, num_attention_heads=2,
    num_key_value_heads=2, num_experts_per_tok=2, kv_lora_rank=64, v_head_dim=64, linear_num_heads=2, linear_head_dim=128, pad_token_id=0,
)  # fmt: skip


def kimi_linear(**other_sizes):
    layers = ["linear_attention"] * 3 + ["full_attention"]
    sizes = dict(SIZES, num_local_experts=4, qk_rope_head_dim=32, qk_nope_head_dim=32) | other_sizes
    return KimiLinearForCausalLM(KimiLinearConfig(**sizes, layer_types=layers, eos_token_id=None)).eval()


def glm(**other_sizes):
    sizes = dict(SIZES, n_routed_experts=4, q_lora_rank=64, qk_nope_head_dim=64, index_topk=64, index_head_dim=32, index_n_heads=2)
    text = sizes | other_sizes
    vision = dict(depth=1, hidden_size=32, num_heads=2, intermediate_size=32, out_hidden_size=256, projection_intermediate_size=32)
    return Glm5NextForConditionalGeneration(Glm5NextConfig(text_config=text, vision_config=vision)).eval()


@contextlib.contextmanager
def kda_layers(model, own_loop=False):
    """Inside, the KDA layers of the model are timed, and with own_loop they run the Python code of transformers. Gives a list of seconds."""
    module, seconds = sys.modules[type(model).__module__], []
    before = {name: getattr(module, name) for name in ("chunk_kimi_delta_attention", "recurrent_kimi_delta_attention")}

    def timed(function):
        def layer(*args, **kwargs):
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            if args[0].is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
            return result

        return layer

    for name, function in before.items():
        setattr(module, name, timed(inspect.unwrap(function) if own_loop else function))
    yield seconds
    for name, function in before.items():
        setattr(module, name, function)


@torch.no_grad()
def run(model, prompt, new_tokens, own_loop=False):
    """Logits of the prompt, what the model writes behind its first 40 tokens; seconds of the prompt, of its KDA layers, and of the writing."""
    with kda_layers(model, own_loop) as seconds:
        begin = time.perf_counter()
        logits = model(prompt).logits.float().cpu()
        whole, kda = time.perf_counter() - begin, sum(seconds)
        tokens = model.generate(prompt[:, :40], max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)
        return logits, tokens.tolist(), whole, kda, time.perf_counter() - begin - whole


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=1024, help="length of the prompt")
    parser.add_argument("--bf16", action="store_true", help="models in bf16, not fp32")
    options = parser.parse_args()
    logging.set_verbosity_error()
    for make in (kimi_linear, glm):
        torch.manual_seed(0)
        model = make().to(options.device, torch.bfloat16 if options.bf16 else torch.float32)
        prompt = torch.randint(2, 512, (1, options.tokens), device=options.device)
        run(model, prompt[:, :64], 4)  # what only the first call does
        ours, theirs = run(model, prompt, 64), run(model, prompt, 64, own_loop=True)
        print(f"{type(model).__name__}, seconds with flash_kda and with the loop of transformers:")
        for what, a, b in zip(("whole prompt", "its KDA layers", "64 new tokens"), ours[2:], theirs[2:], strict=True):
            print(f"  {what:14} {a:8.3f} {b:8.3f}   {b / a:6.1f} times")
        differ = (ours[0] - theirs[0]).abs().amax(-1)  # of a token
        print(f"  logits differ by {differ.median():.1e}, at most {differ.max():.1e}; tokens {'are the same' if ours[1] == theirs[1] else 'differ'}")
    for name, calls in flash_kda.fla.status().items():
        print(f"{name}: taken {calls.taken}, left to FLA {calls.passed_on}" + (f": {calls.last_reason}" if calls.last_reason else ""))


if __name__ == "__main__":
    main()
