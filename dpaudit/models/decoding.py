"""How batch answers are drawn: the settings, and the presets of the systems that dpaudit grew from."""

from dataclasses import dataclass

from dpaudit.errors import UsageError


@dataclass(frozen=True)
class Decoding:
    """`temperature` 0 is greedy: the most probable token, whatever the model's own files say."""

    tokens: int  # of an answer at most
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat: int = 0  # no run of so many tokens twice in prompt and answer; 0: any

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0


PRESETS = {
    "greedy": Decoding(1),
    "sampled": Decoding(1, 0.7, 0.9, 1.1),
    "conservative": Decoding(1, 0.6, 0.85, 1.15, 3),
}


def of_preset(name: str, tokens: int) -> Decoding:
    """Raises UsageError for an unknown name."""
    if name not in PRESETS:
        raise UsageError("--preset", f"one of {', '.join(PRESETS)}", f"{name:.40}")
    known = PRESETS[name]
    return Decoding(tokens, known.temperature, known.top_p, known.repetition_penalty, known.no_repeat)
