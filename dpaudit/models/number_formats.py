"""Number formats of weights, and what this machine makes of them."""

import platform


def is_slow(dtype: str) -> bool:
    """Whether models would run on a processor that is slower in a number format than in float32.

    For bfloat16 an x86 processor needs tiles (AMX): with AVX-512 instructions for it alone, a 135M model
    takes 1.5 times as long as in float32 on one thread.
    """
    import torch

    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype != "bfloat16" or torch.cuda.is_available() or not has_onednn:
        return False  # without oneDNN nobody knows
    if platform.machine().lower() in ("x86_64", "amd64"):
        return not torch.cpu._is_amx_tile_supported()
    return not bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def machine() -> str:
    """What decides here how a model's weights are computed with, besides the weights."""
    import torch

    if torch.cuda.is_available():
        return "accelerator"
    return "processor, bfloat16 read up to float32" if is_slow("bfloat16") else "processor"
