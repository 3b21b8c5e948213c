"""What was found of a claim about a model that was trained elsewhere."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from dpaudit.findings.answers import Answered
from dpaudit.findings.baselines import Blind
from dpaudit.findings.finding import Finding
from dpaudit.findings.membership import FamilyBound, Performance, Proven, Slope
from dpaudit.schema import Count, Proportion, Size


@dataclass(frozen=True)
class BoundOfKey(Proven):
    """What the guesses prove, and the key's rule of guessing in words."""

    rule: str


@dataclass(frozen=True)
class Detection:
    """`epsilon` is where guesses as good as that epsilon allows refute the claim with `probability`.

    None where no number of right guesses refutes it. `correct` right guesses are needed.
    """

    correct: Count | None
    epsilon: Size | None
    probability: Proportion


@dataclass(frozen=True)
class RuleUsed:
    """The rule that the key froze, as it was used."""

    recipe: str
    title: str
    digest: str
    calibrated: bool
    rendering: str
    pair_margin: bool
    chat_template: bool  # of the renderings, one is written in a chat template
    slope: Slope | None  # how much of the base's score was taken off; none where the recipe fits none
    renderings: dict[str, float]  # the trace by which one is chosen: see `stages.verify_scores`


@dataclass(frozen=True)
class NotAsked:
    """A rendering of the key in which the model was not asked, and why: nothing of a canary."""

    rendering: str
    reason: str


@dataclass(frozen=True)
class ControlSeen:
    """The adapter without noise that power comes from, beside the audited one. It decides nothing."""

    name: str
    sha256: str
    correct: Count
    guesses: Count
    gain: float | None  # nats a token over the base, on ordinary rows
    gain_audited: float | None
    rows: Count  # ordinary rows
    steps: Count | None  # as the folder of the control records them
    learning_rate: float | None
    training_loss: float | None
    unknown: str | None  # why it leaves power unknown


@dataclass(frozen=True)
class OtherRecipe:
    """What another recipe's guesses prove at a delta that is claimed. It decides nothing."""

    recipe: str
    title: str
    delta: Proportion
    epsilon_lower: Size
    ceiling: Size
    guesses: Count
    correct: Count
    tied: Count  # of the guesses: made wrong by equal scores, which count against the bound
    confidence: Proportion
    notion: str


@dataclass(frozen=True)
class AuditedModel:
    """What was audited, as it was named. `files` is a digest of all files that decide what the model says:
    its own, its base's and its template's; None behind a URL.
    """

    kind: Literal["adapter", "endpoint", "model"]
    name: str | None
    sha256: str | None  # of an adapter's weights
    endpoint: str | None
    base: str | None
    tokenizer: str | None  # the folder whose chat template was used, where one was named
    files: str | None


@dataclass(frozen=True, kw_only=True)
class AnsweredByKey(Answered):
    """A claim about a model with its verdict, and what the guesses on the model prove at the claim's delta
    and at the level at which it was tested.
    """

    bound: BoundOfKey
    fdp: FamilyBound
    detection: Detection


@dataclass(frozen=True)
class Examined:
    """A model, how it was asked and what was seen of it, whatever is claimed. `name` is the arm of its
    answers.
    """

    name: str
    audited: AuditedModel
    rule: RuleUsed
    not_asked: tuple[NotAsked, ...]
    performance: Performance
    recipes: tuple[OtherRecipe, ...]
    control: ControlSeen | None


@dataclass(frozen=True)
class Visible:
    """What a text classifier, taught on other rows, tells of planted rows beside real ones.

    `found` is the share of planted rows that it finds where it takes at most 1 % of the real rows for
    planted.
    """

    auc: Proportion
    found: Proportion
    planted: Count
    real: Count


@dataclass(frozen=True)
class KeyFacts:
    """What a key says of the planted file; nothing that names a canary."""

    unit: str
    family: str
    shape: str
    rows: Count
    canaries: Count
    data_checked: bool  # of units held out: that `--data` holds their rows
    visibility: Visible | None  # None where the file had too few rows to tell
    bits: Count  # of the secret that is easiest to guess, in binary logarithms
    taken: str  # what the planted rows took from the data
    plan: Literal["planted", "held out"]


@dataclass(frozen=True)
class Recorded:
    """One thing that the trainer's own program recorded."""

    check: str
    result: str
    seen: str


@dataclass(frozen=True)
class Conformance:
    """What `ConformanceCallback` recorded."""

    checks: tuple[Recorded, ...]


@dataclass(frozen=True)
class Verification(Finding):
    """All that verification.json holds: no secret, no coin and no text of a canary.

    `answers` are the claims in the order in which they were typed, `models` what they are about, in the order
    of their first claims. `members` questions were tested together: those that counts alone left in.
    """

    FORMAT: ClassVar = "verification/5"
    answers: tuple[AnsweredByKey, ...]
    models: tuple[Examined, ...]
    members: Count
    blind: Blind
    key: KeyFacts
    conformance: Conformance | None
    commitment: str
    noted_before: str
    version: str
