"""Number formats of weights, and what this machine makes of them."""


def is_slow(dtype: str) -> bool:
    """Whether models would run on a processor that has no instructions for a number format."""
    import torch

    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype != "bfloat16" or torch.cuda.is_available() or not has_onednn:
        return False  # without oneDNN nobody knows
    return not bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def machine() -> str:
    """What decides here how a model's weights are computed with, besides the weights."""
    import torch

    if torch.cuda.is_available():
        return "accelerator"
    return "processor, bfloat16 read up to float32" if is_slow("bfloat16") else "processor"
