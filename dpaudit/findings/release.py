"""Whether an adapter may be released under its claim: a word, the reason, and what to do next."""

from dataclasses import dataclass
from typing import Literal

from dpaudit.findings.declared import Mark
from dpaudit.schema import Size

ReleaseWord = Literal["may be released under its claim", "must not be released", "not established"]
MAY: ReleaseWord = "may be released under its claim"
MUST_NOT: ReleaseWord = "must not be released"
NOT_ESTABLISHED: ReleaseWord = "not established"


@dataclass(frozen=True)
class Rule:
    """What an adapter must show, besides a claim that stands: written down before the run, or the default."""

    most_epsilon: Size
    is_default: bool
    mark: Mark  # of the rule in force
    date: str


@dataclass(frozen=True)
class Released:
    """The word for one adapter. `why` is one sentence without symbols; `others` are further reasons that
    would stand if that one fell; `cautions` change no word.
    """

    arm: str
    word: ReleaseWord
    why: str
    next_step: str
    others: tuple[str, ...]
    cautions: tuple[str, ...]
