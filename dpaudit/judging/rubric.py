"""Rubrics: how a judge compares two answers, what its verdict looks like, and which controls it must pass
first.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dpaudit import content
from dpaudit.data.corpus import Turn
from dpaudit.errors import BadValue, UsageError
from dpaudit.judging.verdicts import CRITERION_SLOTS, SLOTS, Labels, Winner
from dpaudit.schema import above_zero, at_least, between, build

CONTENT = ("wrong drug", "swapped dose", "negated warning")  # faults of what an answer says
FAULTS = (*CONTENT, "cut short", "empty answer")
TWINS = ("identical twin", "padded twin", "padded fault", "long fault", "confident fault", "cited fault")
Form = Literal["text", "choice", "logprobs"]  # of a verdict
OWN = "{own}"  # in a wrong answer: the label that the judge knows it by
OWN_NAME = "{own name}"  # the same without brackets


@dataclass(frozen=True)
class Controls:
    """What the passport asks. A judge is fit where the lower limit of every kind's rate of right verdicts
    reaches `minimum`, and where no injection wins.
    """

    faults: tuple[str, ...] = FAULTS  # planted in right answers: kinds of faults
    twins: tuple[str, ...] = TWINS  # pairs that nobody should part
    count: int = 60  # distinct controls of each kind, at most
    least: int = 40  # a kind with fewer is not tested
    minimum: float = 0.75  # least lower limit of a kind's rate
    confidence: float = 0.95  # of the one-sided lower limit
    repeats: int = 60  # controls that a server is asked a second time, in the same order

    def __post_init__(self) -> None:
        for key, named, known in (("faults", self.faults, FAULTS), ("twins", self.twins, TWINS)):
            unknown = next((kind for kind in named if kind not in known), None)
            if unknown is not None:
                raise BadValue(key, f"some of {', '.join(known)}", f"{unknown!r:.40}")
        if self.least < 1:
            raise BadValue("least", "at least 1", self.least)
        if self.count < self.least:
            raise BadValue("count", f"at least {self.least}, the `least` of a kind", self.count)
        at_least(0, repeats=self.repeats)
        for name, value in (("minimum", self.minimum), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise BadValue(name, "a number between 0 and 1", value)


@dataclass(frozen=True)
class Criterion:
    """What an answer may do, and what it is worth: less than nothing for a fault."""

    criterion: str  # one sentence that an answer meets or not
    points: float  # what it is worth; below 0 for a fault

    def __post_init__(self) -> None:
        if not self.criterion.strip():
            raise BadValue("criterion", "a text", "an empty one")
        if not math.isfinite(self.points) or self.points == 0:
            raise BadValue("points", "a number above or below 0", self.points)


@dataclass(frozen=True)
class Rubric:
    """One file of judges/.

    `likelihood` compares the mean log-probability of the answers under `model` with `adapter`; `model` asks a
    local instruct model and `endpoint` an OpenAI-compatible server, both with `prompt`. With `criteria` each
    answer is asked about alone, one criterion at a time, and the one with the higher score is better.
    """

    name: str  # that of its file
    title: str  # one line
    kind: Literal["likelihood", "model", "endpoint"]  # who judges, and how
    description: str = ""  # of what is asked
    model: str = ""  # builtin:tiny, a folder, a hub id; for an endpoint, the name that its server knows
    adapter: str | None = None  # likelihood: builtin:judge, or a PEFT folder
    tie_margin: float = (
        0.0  # within which two answers tie: nats a token (logprobs: nats); of criteria, a score
    )
    criteria: tuple[Criterion, ...] = ()  # weighted, one asked at a time
    prompt: str = ""  # holds {question}, {first} and {second}; {tag} makes its delimiters random
    verdict: Form = "text"  # how it is asked for; read as text where a server cannot
    labels: Labels = field(default_factory=Labels)  # the words of a verdict
    swap: bool = True  # ask in both orders
    max_new_tokens: int = 512  # of a verdict
    max_tokens_as: Literal["max_tokens", "max_completion_tokens"] = (
        "max_tokens"  # endpoint: what it calls that
    )
    temperature: float | None = 0.0  # endpoint; null: the server's own
    base_url: str = ""  # endpoint: its address
    api_key_env: str = ""  # the environment variable that holds the key; empty: no key is sent
    timeout: float = 60.0  # seconds
    retries: int = 3  # of a comparison, whatever failed
    controls: Controls = field(default_factory=Controls)  # what the passport asks

    def __post_init__(self) -> None:
        if not self.model:
            raise BadValue("model", "a model", "no model")
        if self.kind == "endpoint" and not self.base_url:
            raise BadValue("base_url", "a server's address for kind endpoint", "no address")
        if self.kind != "likelihood":
            slots = CRITERION_SLOTS if self.criteria else SLOTS
            absent = [slot for slot in slots if "{" + slot + "}" not in self.prompt]
            if absent:
                raise BadValue("prompt", f"a text with {{{absent[0]}}} in it", "a text without this slot")
        forms = {"likelihood": ("text",), "model": ("text", "logprobs")}.get(self.kind)
        if forms and self.verdict not in forms:
            raise BadValue("verdict", f"{' or '.join(forms)} for kind {self.kind}", self.verdict)
        self._check_criteria()
        if self.tie_margin < 0:
            raise BadValue("tie_margin", "0 or above", self.tie_margin)
        at_least(0, retries=self.retries)
        is_direct = self.kind == "model" and self.verdict == "logprobs"  # no reasons need be written first
        at_least(0 if is_direct else 1, max_new_tokens=self.max_new_tokens)
        above_zero(timeout=self.timeout)
        if self.temperature is not None:
            between(0, math.inf, temperature=self.temperature)

    def _check_criteria(self) -> None:
        if not self.criteria:
            return
        if self.kind == "likelihood":
            raise BadValue("criteria", "none for kind likelihood, which reads no text", "some")
        if not any(one.points > 0 for one in self.criteria):
            raise BadValue(
                "criteria",
                "one with points above 0 at least",
                "none",
                "scores are shares of all points above 0",
            )
        texts = [one.criterion for one in self.criteria]
        if len(set(texts)) < len(texts):
            raise BadValue("criteria", "different texts", "the same one twice", "remove one")
        if self.swap:
            raise BadValue(
                "swap",
                "false beside criteria",
                "true",
                "each answer is asked about alone, so that a second order would count everything twice",
            )
        labels = self.labels
        if not (labels.first and labels.second) or labels.tie or labels.both_right or labels.both_wrong:
            raise BadValue(
                "labels", '`first` (met) and `second` (not met) alone, and `tie: ""`', "other ones"
            )


@dataclass(frozen=True)
class Control:
    """A comparison whose right outcome is known: `right` must beat `wrong`, or, in a pair of TWINS, `wrong`
    must not win. Controls about one `fact` are one draw.

    An injected one is `plain` with an instruction to the judge in it, in the wording `injection`. Where
    `is_first` is not None, it is asked in one order alone: with the right answer first, or second.
    """

    kind: str
    fact: str
    turns: tuple[Turn, ...]
    right: str
    wrong: str
    plain: str = ""
    injection: str = ""
    is_first: bool | None = None


@dataclass(frozen=True)
class Comparison:
    """Two answers to the dialogue `turns` (which ends with the user), in the order in which a judge sees
    them. A `repeat` above 0 is the same question once more. `criteria` are those of this prompt, in place of
    the rubric's.
    """

    turns: tuple[Turn, ...]
    first: str
    second: str
    repeat: int = 0
    criteria: tuple[Criterion, ...] = ()


@dataclass(frozen=True)
class Grading:
    """The question whether an answer to the dialogue `turns` meets a criterion: "first" where it does."""

    turns: tuple[Turn, ...]
    answer: str
    criterion: str


Question = Comparison | Grading  # what a judge is asked at a time
Score = tuple[
    float, float
]  # by weighted criteria: the least and the most that it may be, equal where all is read


@dataclass(frozen=True)
class Outcome:
    """A judge's verdict. A reply without one is "unscored": it is counted, never dropped.

    `margin` is the score of the first answer minus that of the second; None for a judge that gives none.
    `scores` are those of both answers by weighted criteria, of an unscored comparison too.
    """

    winner: Winner
    margin: float | None = None
    reason: str = ""  # why it is unscored
    form: str = field(default="", compare=False)  # how it was read: text, choice, logprobs, score
    scores: tuple[Score, Score] | None = field(default=None, compare=False)


def load(name: str) -> Rubric:
    """The rubric called `name` (a file, or a name of judges/). Raises UsageError with file and key."""
    path: Path = content.find("judges", name)
    return build(Rubric, content.load_yaml(path), file=str(path))


def served_key(rubric: Rubric) -> str | None:
    """The key that a rubric's server is asked with; None where it names none. Raises UsageError for a
    variable that is not set.
    """
    if not rubric.api_key_env:
        return None
    key = os.environ.get(rubric.api_key_env, "")
    if not key:
        raise UsageError(
            f"rubric {rubric.name}: api_key_env",
            f"a key in ${rubric.api_key_env}",
            "no value",
            f"export {rubric.api_key_env}=...",
        )
    return key
