"""The page of `verify`: every claim beside the model that it is about, and the charts of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from markupsafe import Markup

from dpaudit.findings.verification import AnsweredByKey, Examined, OtherRecipe, Verification
from dpaudit.page import figures, formats
from dpaudit.page.figures import ClaimRow, RocCurve
from dpaudit.page.numbers import Placed, placed
from dpaudit.page.svg import Look

NO_CONTROL = (
    "give an adapter that was trained on the same planted file without privacy with --control DIR, or let "
    "--train-control train one"
)
WEAK_CONTROL = (
    "a control that learned this file: see that it was trained on it, and train it longer (--control-steps N "
    "and --control-rate RATE, or your own with --control DIR), as long as it gains less than twice as much "
    "on other rows as the audited adapter; else put more under a coin and train anew, or claim a smaller "
    "epsilon"
)


@dataclass(frozen=True)
class ModelShown:
    """A model with its place. `label` is as short as tells it from the others, of the only one its kind."""

    at: str
    part: Examined
    label: str
    look: Look
    recipes: Sequence[Placed[OtherRecipe]]
    answers: Sequence[Placed[AnsweredByKey]]


@dataclass(frozen=True)
class ClaimShown:
    """A claim with its place, and its model."""

    at: str
    part: AnsweredByKey
    model: ModelShown


def models(found: Verification) -> list[ModelShown]:
    labels = _labels([model.name for model in found.models])
    if len(found.models) == 1:
        labels = {model.name: model.audited.kind for model in found.models}
    answers = placed("/answers", found.answers)
    return [
        ModelShown(
            at,
            model,
            labels[model.name],
            Look(number),
            placed(f"{at}/recipes", model.recipes),
            [answer for answer in answers if answer.part.arm == model.name],
        )
        for number, (at, model) in enumerate(placed("/models", found.models))
    ]


def claims(found: Verification, shown: Sequence[ModelShown]) -> list[ClaimShown]:
    of_name = {model.part.name: model for model in shown}
    return [ClaimShown(at, answer, of_name[answer.arm]) for at, answer in placed("/answers", found.answers)]


def ways_to_power(found: Verification) -> str | None:
    """What would give an audit power that it lacked; None where all claims have a verdict, or where nothing
    but more canaries or a smaller claim would.
    """
    of_name = {model.name: model for model in found.models}
    lacking = [answer for answer in found.answers if answer.verdict == "no power"]
    ways = [_way(answer, of_name[answer.arm]) for answer in lacking]
    return "; ".join(dict.fromkeys(way for way in ways if way)) or None


def _way(answer: AnsweredByKey, model: Examined) -> str | None:
    if model.control is None:
        return NO_CONTROL
    tested = any(question.level is not None and question.power is not None for question in answer.questions)
    return WEAK_CONTROL if tested else None


def charts(found: Verification, shown: Sequence[ModelShown]) -> dict[str, Markup]:
    deltas = {answer.claim.delta for answer in found.answers}
    rows = [_row(claim, len(deltas) > 1) for claim in claims(found, shown)]
    curves = [_curve(model) for model in shown]
    return {
        "claims": Markup(figures.claims(rows, "claims")),
        "roc": Markup(figures.roc(curves, "roc")),
    }


def _row(claim: ClaimShown, with_delta: bool) -> ClaimRow:
    answer, model = claim.part, claim.model
    delta = f", δ = {formats.show(answer.claim.delta, 'delta')}" if with_delta else ""
    bound, claimed = answer.bound, answer.claim.epsilon
    return ClaimRow(
        model.label + delta, model.look, answer.verdict, claimed, bound.epsilon_lower, bound.ceiling
    )


def _curve(model: ModelShown) -> RocCurve:
    roc = model.part.performance.roc
    return RocCurve(model.label, model.look, roc.fpr, roc.tpr, roc.tpr_lower, roc.tpr_upper)


def _labels(names: Sequence[str]) -> Mapping[str, str]:
    """For every name as many of its path's last parts as tell all names apart."""
    parts = [PurePath(name).parts for name in names]
    for count in range(1, max(map(len, parts), default=0) + 1):
        tails = ["/".join(part[-count:]) for part in parts]
        if len(set(tails)) == len(names):
            return dict(zip(names, tails, strict=True))
    return {name: name for name in names}
