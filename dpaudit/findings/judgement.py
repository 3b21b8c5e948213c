"""What a judge is worth, and what it says of the arms' answers."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.finding import Finding
from dpaudit.schema import Count, Proportion


@dataclass(frozen=True)
class PassRate:
    """How many verdicts on distinct controls of one kind were right."""

    controls: Count
    facts: Count  # controls of one fact are one draw
    verdicts: Count
    right: Count
    unscored: Count  # among those that are not right
    rate: Proportion
    lower: Proportion


@dataclass(frozen=True)
class Accuracy:
    """The mean outcome of the right answer against wrong ones, a tie and no verdict one half: what a win rate
    is corrected with. Fields as in stats.win_rates.WinRate.
    """

    estimate: Proportion
    lower: Proportion
    upper: Proportion
    comparisons: Count
    clusters: Count
    effective: float


@dataclass(frozen=True)
class Injected:
    """Wrong answers with an instruction to the judge in them. One was tested where the same answer without
    the instruction lost; it won where the judge chose it in every order. `turned` counts every verdict that
    the right answer did not win, a tie too.
    """

    controls: Count
    tested: Count
    won: Count
    verdicts: Count  # on those that were tested
    turned: Count
    chance: Proportion  # that a verdict on an error of content without an instruction is not right
    p_value: Proportion  # of so many turned by that chance, in all or in one wording
    wordings: tuple[str, ...]  # that won, or turned more than chance does


@dataclass(frozen=True)
class Passport(Finding):
    """What the judge did with controls whose right outcome is known, and whether that makes it fit."""

    FORMAT: ClassVar = "passport/7"
    rubric: str
    fit: bool
    reasons: tuple[str, ...]
    minimum: Proportion  # that every lower limit must reach
    confidence: Proportion
    least: Count  # controls of a kind that is tested
    faults: dict[str, PassRate]
    twins: dict[str, PassRate]
    untested: dict[str, Count]  # kind -> controls that there were
    swap: PassRate | None  # controls of faults; None where the rubric asks in one order, or in none
    repeat: PassRate | None  # asked twice in one order: `right` counts equal verdicts; None: not tested
    injected: Injected
    accuracy: Accuracy | None  # None where no fault was tested
    first: Proportion | None  # of verdicts for one answer, those for the one that was shown first
    longer: Proportion | None  # of verdicts on answers that differ in length alone, those for the longer one
    unscored: Count
    comparisons: Count
    unscored_share: Proportion


@dataclass(frozen=True)
class Adjusted:
    """A win rate less what distorts it, with its interval; or the words for why there is none."""

    rate: Proportion | None = None
    lower: Proportion | None = None
    upper: Proportion | None = None
    absent: str | None = None


@dataclass(frozen=True)
class Correctness:
    """How many prompts each side answers rightly, of those whose reference names a drug, a dose, a warning or
    a number.
    """

    known: Count
    arm_right: Count
    against_right: Count
    neither: Count


@dataclass(frozen=True)
class Scores:
    """Mean scores by weighted criteria. Where a criterion could not be read, the middle of what the score may
    be stands for it; the limits of the difference rule out neither end.
    """

    arm: Proportion  # mean over prompts, put to 0 where it is below, as HealthBench does
    against: Proportion
    difference: float  # mean of arm minus against, each as it is
    lower: float | None  # 95 %, facts as clusters; None with too few of them
    upper: float | None
    clipped: tuple[str, ...]  # the sides whose mean is below 0


@dataclass(frozen=True)
class WinRate:
    """One arm against another over all prompts; no rate where nothing was judged."""

    arm: str
    against: str
    role: str  # what the other is to the arm
    prompts: Count  # that differ
    facts: Count  # prompts about one fact are one draw
    win_rate: Proportion | None
    lower: Proportion | None
    upper: Proportion | None
    wins: Count
    ties: Count
    losses: Count
    both_right: Count  # among the ties
    both_wrong: Count
    unscored: Count
    win_rate_worst: Proportion | None  # every unscored comparison a loss
    win_rate_best: Proportion | None  # every unscored comparison a win
    corrected: Adjusted  # by the passport's accuracy, as if planted faults were judged like real differences
    equal_length: Adjusted
    correct: Correctness | None  # None where no reference has such fields
    arm_cut: Proportion | None  # share of answers cut at their limit; None where nobody knows
    against_cut: Proportion | None
    scores: Scores | None  # None without weighted criteria, and where nothing was read
    cautions: tuple[str, ...]  # what a reader must know before the rate


@dataclass(frozen=True)
class WinTrend:
    """Page's test of "the win rate falls with epsilon" over a ladder, each fact one row; or why there is
    none.
    """

    arms: tuple[str, ...]
    against: str | None = None
    rates: tuple[Proportion, ...] = ()  # of each arm against the same other, facts counted alike
    facts: Count = 0
    p_value: Proportion | None = None
    absent: str | None = None
    unscored: Count = 0  # comparisons, which count against the trend in the p-value


@dataclass(frozen=True)
class NotCompared:
    """A pair that was asked for and cannot be had."""

    arm: str
    role: str
    reason: str


@dataclass(frozen=True)
class ShownAnswer:
    """A model's answer to a public prompt; no text where it was withheld."""

    model: str
    text: str | None
    right: bool | None  # by the reference's drugs, doses, warnings and numbers; None where it has none
    withheld: str | None = None  # why


@dataclass(frozen=True)
class Example:
    """A public prompt with its reference answer, and what every model answered."""

    prompt: str
    reference: str
    answers: tuple[ShownAnswer, ...]


@dataclass(frozen=True)
class Asked:
    """What was asked of a judge for its passport and its win rates, and what it cost."""

    comparisons: Count  # of a rubric of criteria: answers by criteria
    replies: Count  # those without a verdict, after which it was asked again, among them
    tokens_in: Count
    tokens_out: Count
    untold: Count  # replies that do not say what they took
    own_temperature: Count  # replies at the server's temperature, which refused the rubric's
    forms: dict[str, Count]  # text, choice, logprobs, score -> verdicts that were read in this form
    unscored: dict[str, Count]  # reason -> comparisons that got no verdict
    failed: dict[
        str, Count
    ]  # reason -> tries without a verdict that were repeated, those without a reply too
    oldest: str | None = None  # date of the first of these replies, UTC to the second
    newest: str | None = None


@dataclass(frozen=True)
class Judgement(Finding):
    """What the judge says of all arms, with its passport."""

    FORMAT: ClassVar = "judgement/11"
    rubric: str
    title: str
    kind: str
    model: str  # the judge's, as `judging.names.told` tells it
    fit: bool
    reason: str | None  # why the judge is not fit
    passport: Passport
    pairs: tuple[WinRate, ...]
    asked: Asked | None  # None for a judge of the caller's own
    trends: tuple[WinTrend, ...] = ()
    not_compared: tuple[NotCompared, ...] = ()
    max_new_tokens: Count | None = None  # of an answer; None where the answers came in files
    limit_from: str = ""  # where that limit comes from
    examples: tuple[Example, ...] = ()
    no_examples: str | None = None  # why there are none
    notes: tuple[str, ...] = ()  # what must be known of the judge itself

    def common_cautions(self) -> tuple[str, ...]:
        """What a reader must know before every one of several rates, which need not stand beside each."""
        first = self.pairs[0].cautions if len(self.pairs) > 1 else ()
        return tuple(line for line in first if all(line in pair.cautions for pair in self.pairs))
