"""The recipes of each arm corrected for their number, rates at few false positives, the table behind the
curves.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.membership import Membership
from dpaudit.findings.recipes import Corrected
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, placed, say
from dpaudit.page.phrases import ABSENT, is_alarmed

FPRS = (0.01, 0.05, 0.1, 0.5)  # of the table behind the curves


@dataclass(frozen=True)
class StrongestRow:
    """The recipe that tells most on one arm, corrected for the number of recipes."""

    arm: str
    recipe: str
    primary: bool
    cells: tuple[Markup, ...]  # AUC, rate at 1 %, p, corrected bound, how many recipes tell


@dataclass(frozen=True)
class RocRow:
    """The ROC curve of one arm at a few false positive rates."""

    arm: str
    cells: tuple[Markup, ...]


def tpr(joins: Joins, audit: Placed[Membership]) -> Markup:
    at = f"{audit.at}/canaries/tpr_at_fpr"
    if audit.part.canaries.tpr_at_fpr.measurable:
        rate = joins.num(f"{at}/tpr", "percent_one")
        limits = joins.num.interval(at, "tpr_lower", "tpr_upper", "percent")
        return say("{rate} {limits}", rate=rate, limits=limits)
    found, index = audit.part.canaries, _at_fpr(audit.part, audit.part.canaries.tpr_at_fpr.fpr_target)
    rate = joins.num(f"{at}/tpr_on_curve", "percent_one")
    if found.roc.tpr[index] != found.tpr_at_fpr.tpr_on_curve:
        return say("{rate} †", rate=rate)
    return say("{rate} {limits} †", rate=rate, limits=_band(joins, audit.at, index))


def _at_fpr(finding: Membership, fpr: float) -> int:
    """The last point of the curve that has at most this false positive rate."""
    return max(at for at, value in enumerate(finding.canaries.roc.fpr) if value <= fpr)


def _band(joins: Joins, at: str, index: int) -> Markup:
    low, high = (
        joins.num(f"{at}/canaries/roc/{side}/{index}", f"percent_{way}")
        for side, way in (("tpr_lower", "down"), ("tpr_upper", "up"))
    )
    return say('<span class="interval">[{low}, {high}]</span>', low=low, high=high)


def roc(joins: Joins) -> Iterator[RocRow]:
    """The curve at its last points with at most these false positive rates, each with its interval."""
    for at, finding in joins.verdicts:
        cells = []
        for fpr in FPRS:
            index = _at_fpr(finding, fpr)
            place = f"{at}/canaries/roc"
            cells.append(
                say(
                    "{tpr} {limits} at {fpr}",
                    tpr=joins.num(f"{place}/tpr/{index}", "percent_one"),
                    limits=_band(joins, at, index),
                    fpr=joins.num(f"{place}/fpr/{index}", "percent_one"),
                )
            )
        yield RocRow(finding.arm, tuple(cells))


def corrected(joins: Joins, arm: str, recipe: str) -> Placed[Corrected]:
    at, rows = next(row for row in placed("/recipes", joins.report.recipes) if row.part.arm == arm)
    return next(row for row in placed(f"{at}/each", rows.each) if row.part.recipe == recipe)


def strongest(joins: Joins) -> Iterator[StrongestRow]:
    num = joins.num
    for at, arm in placed("/recipes", joins.report.recipes):
        place, _ = corrected(joins, arm.arm, arm.strongest)
        audit = next(a for a in joins.audits if (a.part.arm, a.part.recipe) == (arm.arm, arm.strongest))
        proven = ABSENT if arm.epsilon_lower is None else num(f"{at}/epsilon_lower", "two_down")
        yield StrongestRow(
            arm=arm.arm,
            recipe=arm.strongest,
            primary=audit.part.primary,
            cells=(
                num.area(f"{audit.at}/canaries"),
                tpr(joins, audit),
                num(f"{place}/p_holm", "p"),
                Markup("withheld") if is_alarmed(audit.part.blind) else proven,
                num.counted(at, "tell", "recipes"),
            ),
        )


def beyond(joins: Joins) -> Markup | None:
    rows = [row for row in joins.report.recipes if row.above_claim]
    if not rows:
        return None
    named = [say("{arm} by {recipes}", arm=code(row.arm), recipes=", ".join(row.above_claim)) for row in rows]
    return say(
        "<strong>More than the claim is proven, with all recipes allowed for:</strong> {named}. The verdict "
        "is that of the primary recipe, which was named beforehand; this is a reason to look again before "
        "anything is released.",
        named=Markup("; ").join(named),
    )
