"""English has a singular: `1 prompts` of a page becomes `1 prompt`, whichever sentence it stands in."""

import re

NOUNS = (
    "adapters|arms|attacks|benchmarks|canaries|checks|comparisons|controls|devices|dialogues|facts|files|"
    "guesses|items|members|models|non-members|others|patients|pairs|prompts|recipes|records|repeats|replies|"
    "rows|runs|secrets|seeds|sequences|steps|symbols|texts|times|tokens|units|verdicts"
)
_ENDS = {"canaries": "canary", "replies": "reply", "guesses": "guess"}
_BETWEEN = "axis|different|distinct|held-out|invented|judged|planted|preference|private|real|training"
_ONE = re.compile(rf"(>1</data>(?: (?:{_BETWEEN}))? )({NOUNS})\b")


def singular(html: str) -> str:
    """The page with the nouns behind its ones in the singular. Figures stay as they are."""
    return _ONE.sub(lambda found: found[1] + one(found[2]), html)


def one(noun: str) -> str:
    """The singular of one of NOUNS."""
    return _ENDS.get(noun, noun.removesuffix("s"))
