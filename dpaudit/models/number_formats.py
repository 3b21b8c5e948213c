"""Number formats of weights, and what this machine makes of them."""


def is_slow(dtype: str) -> bool:
    """Whether models would run on a processor that has no instructions for a number format."""
    import torch

    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype != "bfloat16" or torch.cuda.is_available() or not has_onednn:
        return False  # without oneDNN nobody knows
    return not bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
