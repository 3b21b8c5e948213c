"""From a model's answers and the coins of a key to verdicts. Every verdict comes from the rule that the key
froze, and all claims of a call are one family.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from dpaudit.errors import UsageError
from dpaudit.evidence import questions
from dpaudit.evidence.family import first_level
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.questions import Asked, Outside
from dpaudit.findings.answers import Answered
from dpaudit.findings.baselines import Blind
from dpaudit.findings.membership import Proven
from dpaudit.findings.verification import AnsweredByKey, BoundOfKey, OtherRecipe
from dpaudit.planting import audit_key
from dpaudit.planting.audit_key import AuditKey
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Recipe
from dpaudit.stages.asking import Answers
from dpaudit.stages.audit.performance import CONFIDENCE, guess_by, rule
from dpaudit.stages.verify_control import Look
from dpaudit.stages.verify_scores import Scored, scored
from dpaudit.stats import epsilon

NEEDS_DISTRIBUTION = ("min_k_pp",)  # signals that ask for more than the log-probability of the text
UNKNOWN = (
    "its power is unknown without a control, an adapter that was trained on the same planted data "
    "without noise"
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Guessed:
    """What the rule that the key froze makes of one model's answers: `scores` of every rendering, and the
    guesses by the chosen one's. The rendering is chosen by the scores of all canaries alone, in or out.
    """

    made_by: Recipe
    is_pair: bool
    scores: dict[str, Scored]
    chosen: Answers
    coins: NDArray[np.bool_]
    guesses: Guesses


def guessed(key: AuditKey, answers: Sequence[Answers]) -> Guessed:
    """Raises UsageError for a base that reveals coins and for a model that gives no numbers."""
    is_calibrated = answers[0].base is not None
    made_by = key.rule.primary if is_calibrated else key.rule.without_base
    is_pair = key.unit == "pair" or key.canaries[0].record.is_pair
    if is_calibrated:
        _check_base(key, answers, is_pair)
    scores = {a.rendering: scored(made_by, a, is_pair) for a in answers}
    chosen = max(answers, key=lambda a: scores[a.rendering].trace)
    coins = np.array(key.coins, dtype=bool)
    guesses = _guesses(made_by, scores[chosen.rendering].values, coins)
    return Guessed(made_by, is_pair, scores, chosen, coins, guesses)


@dataclass(frozen=True, eq=False)
class Claimed:
    """A claim about the model of that name, and what its verdict follows from."""

    name: str
    claim: Claim
    guessed: Guessed
    look: Look | None = None  # at a control


def judged(claimed: Sequence[Claimed], broken: str | None = None) -> tuple[AnsweredByKey, ...]:
    """The verdict on every claim of a call, in one family; `broken` says why guesses prove nothing."""
    answers = questions.answered([asked(made, broken) for made in claimed])
    members = questions.size_of(answers)
    return tuple(_with_bounds(made, answer, members) for made, answer in zip(claimed, answers, strict=True))


def asked(made: Claimed, broken: str | None = None) -> Asked:
    """The question about a claim, from outside alone."""
    outside = Outside(
        made.name,
        made.guessed.guesses,
        control=made.look.control if made.look else None,
        unknown=made.look.unknown if made.look else UNKNOWN,
        broken=broken,
    )
    return Asked(made.name, made.claim, outside)


def _with_bounds(made: Claimed, answer: Answered, members: int) -> AnsweredByKey:
    """The answer with its bounds at the level at which the claim was tested; of a claim that was left out, at
    the level that it would have had.
    """
    (question,) = answer.questions
    level = first_level(members + 1) if question.level is None else question.level
    guesses, delta = made.guessed.guesses.at(1 - level), made.claim.delta
    made_by = made.guessed.made_by
    assert made_by.bound is not None
    return AnsweredByKey(
        **vars(answer),
        bound=BoundOfKey(**guesses.bound(delta), rule=rule(made_by.bound.guess)),
        fdp=guesses.in_family(delta),
        detection=guesses.power(made.claim),
    )


def _check_base(key: AuditKey, answers: Sequence[Answers], is_pair: bool) -> None:
    """Raises UsageError where the base alone reveals coins: it learned from the planted data, or was
    exchanged with the audited model.

    Given such a base the coins are no longer fair: neither right nor wrong guesses after calibration prove
    anything.
    """
    made_by, coins = key.rule.without_base, np.array(key.coins, dtype=bool)
    for given in answers:
        assert given.base is not None
        alone = scored(made_by, Answers(given.rendering, given.secrets, given.base, None), is_pair).values
        for side in (alone, -alone):
            guesses = _guesses(made_by, side, coins)
            p_value = epsilon.p_value_one_run(
                canaries=guesses.canaries,
                guesses=guesses.guesses,
                correct=guesses.correct,
                epsilon=0.0,
                delta=0.0,
            )
            if p_value < audit_key.UNFAIR:
                raise UsageError(
                    "--base",
                    "the model that training started from, which knows no canary",
                    "a model that tells which canaries went in",
                    "name the model as it was before it saw the planted data",
                )


def _guesses(made_by: Recipe, scores: Floats, coins: NDArray[np.bool_]) -> Guesses:
    assert made_by.bound is not None
    return guess_by(scores, coins, made_by.bound)


def others(found: Guessed, deltas: Sequence[float]) -> tuple[OtherRecipe, ...]:
    """What other recipes' guesses prove at each delta. Information: they decide nothing, and no correction is
    made for them.
    """
    rows = []
    for made_by in recipe.load_all("mia"):
        if not _can_be_shown(made_by, found):
            continue
        try:
            guesses = _guesses(made_by, scored(made_by, found.chosen, found.is_pair).values, found.coins)
        except UsageError:  # no number under a signal that decides nothing: the verdict stands without it
            continue
        rows += [_other(made_by, Proven(**guesses.bound(delta)), delta) for delta in deltas]
    return tuple(rows)


def _can_be_shown(made_by: Recipe, found: Guessed) -> bool:
    """Whether a recipe needs no more than was asked here: no shadow training, no fit on coins, nothing beyond
    log-probabilities.
    """
    answers = found.chosen
    unknown = np.isnan(answers.audited[0].mean).any() and made_by.signal in NEEDS_DISTRIBUTION
    uncalibrated = made_by.reference != "none" and answers.base is None
    if made_by.digest == found.made_by.digest or made_by.bound is None or unknown or uncalibrated:
        return False
    signal = made_by.make_signal()
    asks_more = getattr(signal, "evidence", None) or made_by.signal == "error_zone"
    return not made_by.least_shadows and callable(signal) and not asks_more


def _other(made_by: Recipe, bound: Proven, delta: float) -> OtherRecipe:
    return OtherRecipe(
        recipe=made_by.name,
        title=made_by.title,
        delta=delta,
        epsilon_lower=bound.epsilon_lower,
        ceiling=bound.ceiling,
        guesses=bound.guesses,
        correct=bound.correct,
        tied=bound.guesses - bound.correct_at_most,
        confidence=bound.confidence,
        notion=bound.notion,
    )


def blind_of(key: AuditKey) -> Blind:
    """What the canaries' texts alone reveal of the coins: nothing, if the coins are what the key says."""
    from dpaudit.evidence import blind

    texts = []
    for canary in key.canaries:
        record = canary.record
        parts = [*(turn.text for turn in record.turns), record.text, record.chosen, record.rejected]
        texts.append("\n".join(text for text in parts if text))
    seen = blind.baseline(texts, list(key.coins), seed=0, confidence=CONFIDENCE)
    return Blind(
        **asdict(seen),
        finding=blind.finding(seen.auc_lower, seen.auc_upper, seen.p_value, drawn_by_coin=True),
    )
