"""The claims of a run, declared before training or added later, with what was said of each."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from dpaudit.findings.answers import Before
from dpaudit.findings.finding import Finding
from dpaudit.findings.membership import Word
from dpaudit.schema import Proportion, Size

Mark = Literal["declared", "added later"]


@dataclass(frozen=True)
class ClaimOfRun:
    """A claim of the run with its mark; with its verdict where `verify --run` has looked since."""

    arm: str
    claim: Size  # epsilon, nats
    delta: Proportion
    mark: Mark
    date: str
    adapter_sha256: str | None = None
    epsilon_lower: Size | None = None
    ceiling: Size | None = None
    verdict: Word | None = None
    reason: str | None = None
    before: tuple[Before, ...] = ()  # the same claim in the runs that this one repeats


@dataclass(frozen=True)
class ClaimsOfRun(Finding):
    """All claims of the run, as `verify --run` found them."""

    FORMAT: ClassVar = "claims/3"
    claims: tuple[ClaimOfRun, ...]
