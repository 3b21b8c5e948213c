"""Rubrics: how a judge compares two answers, what its verdict looks like, and the planted faults that it must
detect first.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dpaudit import content
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import BadValue
from dpaudit.judging.verdicts import SLOTS, Labels, Winner, question_of
from dpaudit.schema import above_zero, at_least, between, build

CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Controls:
    """The planted faults of the passport. A judge is fit where the lower limit of every kind's pass rate
    reaches `minimum`.
    """

    faults: tuple[str, ...] = ("wrong drug", "swapped dose", "negated warning", "cut short")
    twins: tuple[str, ...] = ("identical twin", "padded twin")
    count: int = 40  # controls of each kind
    minimum: float = 0.75
    confidence: float = 0.95  # of the one-sided lower limit

    def __post_init__(self) -> None:
        known = (*FAULTS, *TWINS)
        for kind in (*self.faults, *self.twins):
            if kind not in known:
                raise BadValue(
                    "faults" if kind in self.faults else "twins",
                    f"some of {', '.join(known)}",
                    f"{kind!r:.40}",
                )
        if self.count < 1:
            raise BadValue("count", "at least 1", self.count)
        for name, value in (("minimum", self.minimum), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise BadValue(name, "a number between 0 and 1", value)


@dataclass(frozen=True)
class Rubric:
    """One file of judges/.

    `likelihood` compares the mean log-probability of the answers under `model` with `adapter`; `model` asks a
    local instruct model and `endpoint` an OpenAI-compatible server, both with `prompt`.
    """

    name: str
    title: str
    kind: Literal["likelihood", "model", "endpoint"]
    description: str = ""
    model: str = ""  # builtin:tiny, a folder, a hub id; for an endpoint, the name that its server knows
    adapter: str | None = None  # likelihood: builtin:judge, or a PEFT folder
    tie_margin: float = 0.0  # likelihood: nats a token within which two answers tie
    prompt: str = ""  # holds {question}, {first} and {second}; {tag} makes its delimiters random
    labels: Labels = field(default_factory=Labels)
    swap: bool = True  # ask in both orders
    max_new_tokens: int = 512  # of a verdict
    max_tokens_as: Literal["max_tokens", "max_completion_tokens"] = (
        "max_tokens"  # endpoint: what it calls that
    )
    temperature: float | None = 0.0  # endpoint; null: the server's own
    base_url: str = ""
    api_key_env: str = ""  # the environment variable that holds the key; empty: no key is sent
    timeout: float = 60.0  # seconds
    retries: int = 3  # of a comparison, whatever failed
    controls: Controls = field(default_factory=Controls)

    def __post_init__(self) -> None:
        if not self.model:
            raise BadValue("model", "a model", "no model")
        if self.kind == "endpoint" and not self.base_url:
            raise BadValue("base_url", "a server's address for kind endpoint", "no address")
        if self.kind != "likelihood":
            absent = [slot for slot in SLOTS if "{" + slot + "}" not in self.prompt]
            if absent:
                raise BadValue("prompt", f"a text with {{{absent[0]}}} in it", "a text without this slot")
        if self.tie_margin < 0:
            raise BadValue("tie_margin", "0 or above", self.tie_margin)
        at_least(0, retries=self.retries)
        at_least(1, max_new_tokens=self.max_new_tokens)
        above_zero(timeout=self.timeout)
        if self.temperature is not None:
            between(0, math.inf, temperature=self.temperature)


@dataclass(frozen=True)
class Control:
    """A comparison whose right outcome is known: `right` must beat `wrong`, or tie with it where it is its
    twin.
    """

    kind: str
    turns: tuple[Turn, ...]
    right: str
    wrong: str


@dataclass(frozen=True)
class Comparison:
    """Two answers to the dialogue `turns` (which ends with the user), in the order in which a judge sees
    them.
    """

    turns: tuple[Turn, ...]
    first: str
    second: str


@dataclass(frozen=True)
class Outcome:
    """A judge's verdict. A reply without one is "unscored": it is counted, never dropped.

    `margin` is the score of the first answer minus that of the second; None for a judge that gives none.
    """

    winner: Winner
    margin: float | None = None
    reason: str = ""  # why it is unscored


def load(name: str) -> Rubric:
    """The rubric called `name` (a file, or a name of judges/). Raises UsageError with file and key."""
    path: Path = content.find("judges", name)
    return build(Rubric, content.load_yaml(path), file=str(path))


# ---- planted faults: a right answer made wrong by rules of its text alone; None where a rule finds no hold


def wrong_drug(question: str, right: str, others: Sequence[str]) -> str | None:
    """The answer with its drug (else its longest word) replaced by one of another answer."""
    for terms in (_drugs, _long_words):
        for own in terms(right):
            candidates = (term for other in others for term in terms(other))
            new = next((term for term in candidates if term not in right and term not in question), None)
            if new is not None and own not in question:
                return right.replace(own, new)
    return None


def swapped_dose(question: str, right: str, others: Sequence[str]) -> str | None:
    """The answer with its first number replaced by a number of another answer, else by its tenfold."""
    match = _NUMBER.search(right)
    if match is None:
        return None
    numbers = (number for other in others for number in _NUMBER.findall(other))
    other = next((number for number in numbers if float(number) != float(match[0])), None)
    tenfold = f"{float(match[0]) * 10 or 10:g}"
    return right[: match.start()] + (other or tenfold) + right[match.end() :]


def negated_warning(question: str, right: str, others: Sequence[str]) -> str | None:
    """The answer with its first warning turned into advice, or its first advice into a warning."""
    rules = _NEGATIONS_ZH if CHINESE.search(right) else _NEGATIONS
    for pattern, replacement in rules:
        changed, count = pattern.subn(replacement, right, count=1)
        if count:
            return changed
    return None


def cut_short(question: str, right: str, others: Sequence[str]) -> str | None:
    """The first two fifths of the answer, cut inside its sentence."""
    if CHINESE.search(right):
        return right[: len(right) * 2 // 5] if len(right) >= 5 else None
    words = right.split()
    return " ".join(words[: len(words) * 2 // 5]) if len(words) >= 5 else None


def identical_twin(question: str, right: str, others: Sequence[str]) -> str | None:
    """The same answer: only a tie is right."""
    return right


def padded_twin(question: str, right: str, others: Sequence[str]) -> str | None:
    """The same answer with empty sentences behind it: it must not win for its length."""
    filler = "希望以上信息对您有所帮助，如有疑问请随时联系。" if CHINESE.search(right) else _FILLER
    return right + ("" if CHINESE.search(right) else " ") + filler


Fault = Callable[[str, str, Sequence[str]], str | None]
FAULTS: dict[str, Fault] = {
    "wrong drug": wrong_drug,
    "swapped dose": swapped_dose,
    "negated warning": negated_warning,
    "cut short": cut_short,
}
TWINS: dict[str, Fault] = {"identical twin": identical_twin, "padded twin": padded_twin}


def plant(records: Sequence[Record], wanted: Controls) -> list[Control]:
    """Up to `count` controls of every wanted kind, made from records that end with a right answer."""
    answers = [record.turns[-1].text for record in records]
    made: list[Control] = []
    for kind in (*wanted.faults, *wanted.twins):
        rule = (FAULTS | TWINS)[kind]
        kept = 0
        for number, record in enumerate(records):
            others = [answers[(number + step) % len(answers)] for step in range(1, min(len(answers), 8))]
            right, turns = answers[number], record.turns[:-1]
            wrong = rule(question_of(turns), right, others) if turns else None
            if wrong is not None and (wrong != right or kind == "identical twin") and kept < wanted.count:
                made.append(Control(kind, turns, right, wrong))
                kept += 1
    return made


def twins_of(controls: Sequence[Control], wanted: Controls) -> list[Control]:
    """Twins of controls' right answers, for a source of controls that plants faults alone."""
    plain: Mapping[tuple[str, str], Control] = {(question_of(c.turns), c.right): c for c in controls}
    made = []
    for kind in wanted.twins:
        for control in list(plain.values())[: wanted.count]:
            twin = TWINS[kind](question_of(control.turns), control.right, ())
            made.append(Control(kind, control.turns, control.right, twin or control.right))
    return made


_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DRUG = re.compile(
    r"\b[A-Za-z]+(?:cillin|mycin|micin|oxacin|cycline|azole|statin|sartan|pril|olol|dipine|formin|"
    r"gliptin|gliflozin|mab|nib|profen|caine|zine|tine|sone|lone|thiazide|semide|parin|xaban|triptan|"
    r"ovir|phylline|cetamol|aspirin|codone|setron|lukast|terol|azepam|zolam)\b",
    re.IGNORECASE,
)
_DRUG_ZH = re.compile(
    r"[\u4e00-\u9fff]{1,4}(?:霉素|西林|沙星|洛尔|普利|沙坦|他汀|地平|拉唑|胶囊|颗粒|片|汤|丸)"
)
_WORD = re.compile(r"[A-Za-z]{8,}")
_FILLER = (
    "I hope that this information is helpful to you. Please feel free to ask about anything else at any time."
)
_NEGATIONS = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\b(?:do not|don't|never)\b ?", ""),
        (r"\bavoid\b", "freely use"),
        (r"\b(should|must|can|could|may|might|will|would) not\b", r"\1"),
        (r"\b(should|must|can|could|may|might|will|would)\b", r"\1 not"),
        (r"\b(is|are|was|were) not\b", r"\1"),
        (r"\b(is|are|was|were)\b", r"\1 not"),
        (r"^take\b", "Do not take"),
    )
]
_NEGATIONS_ZH = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"避免|禁止|禁用|忌|不要|切勿|请勿", "可以多用"),
        (r"不(宜|能|可|应|得)", r"\1"),
        (r"(应该|应当|可以|需要|建议|必须)", r"不\1"),
        (r"[应可宜能]", r"不\g<0>"),
        (r"请", "请勿"),
    )
]


def _drugs(text: str) -> list[str]:
    """Drug names, recognised by their endings, in their order."""
    return list(dict.fromkeys((_DRUG_ZH if CHINESE.search(text) else _DRUG).findall(text)))


def _long_words(text: str) -> list[str]:
    """Words of eight letters and more, the longest first: what is left to carry an answer's content."""
    return sorted(dict.fromkeys(_WORD.findall(text)), key=len, reverse=True)
