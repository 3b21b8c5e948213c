"""The columns of tables about training: what is foretold of it, and what it took."""

TRAINING = {
    "forecast": {
        "arm": ("arm", "text"),
        "start": ("starts at", "text"),
        "epsilon": ("claimed epsilon", "epsilon"),
        "noise_multiplier": ("sigma", "sigma"),
        "sampling_rate": ("rate", "number"),
        "steps": ("steps", "count"),
        "batch": ("batch", "count"),
        "clip": ("clip", "number"),
        "trainable_parameters": ("trains", "count"),
        "memory_gib": ("GiB, about", "number"),
        "axes": ("canaries along axes", "count"),
    },
    "claims_ahead": {
        "arm": ("claim", "text"),
        "epsilon": ("epsilon", "epsilon"),
        "finds_half": ("inside: half the noise is found in", "percent"),
        "finds_third": ("a third in", "percent"),
        "ceiling": ("outside: proves at most", "three_down"),
        "answer": ("answer", "text"),
    },
    "takes": {
        "what": ("measured on a few passes", "text"),
        "device": ("device", "text"),
        "threads": ("threads", "count"),
        "peak_memory_mb": ("peak memory", "megabytes"),
        "seconds": ("time", "duration"),
        "processor_seconds": ("processor time", "duration"),
    },
    "took": {
        "arm": ("arm", "text"),
        "device": ("trained on", "text"),
        "devices": ("devices", "count"),
        "longest": ("longest sequence", "count"),
        "peak_memory_mb": ("peak memory of one", "megabytes"),
        "tokens_per_second": ("tokens/s", "count"),
        "seconds": ("time", "duration"),
    },
}
