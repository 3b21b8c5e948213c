"""Whether training ran the mechanism in its ledger, as canaries along axes of the weights show it."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.inside import Check, Inside
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, placed, say
from dpaudit.page.phrases import mark


@dataclass(frozen=True)
class InsideRow:
    """One arm; all cells are figures of its tests."""

    at: str
    arm: str


@dataclass(frozen=True)
class InsideSection:
    """The section as the template places it."""

    refuted: tuple[Markup, ...]
    rows: tuple[InsideRow, ...]
    caught: tuple[Markup, ...]
    arms: tuple[str, ...]
    checks: tuple[tuple[str, tuple[str, ...]], ...]  # name, its outcome arm by arm
    unseen: tuple[str, ...]  # what no observer sees, a sentence each


def inside(joins: Joins) -> InsideSection | None:
    """None where no arm had canaries along axes."""
    findings = placed("/inside", joins.report.inside)
    if not findings:
        return None
    first = findings[0].part.conformance
    return InsideSection(
        refuted=tuple(_refuted(finding.part) for finding in findings if finding.part.failed),
        rows=tuple(_row(finding) for finding in findings),
        caught=tuple(_caught(joins, finding) for finding in findings),
        arms=tuple(finding.part.arm for finding in findings),
        checks=tuple((check.name, tuple(_outcomes(joins, check.name))) for check in first),
        unseen=tuple(_sentence(check) for check in first if check.outcome == "not observable"),
    )


def _row(finding: Placed[Inside]) -> InsideRow:
    return InsideRow(at=finding.at, arm=finding.part.arm)


def _refuted(finding: Inside) -> Markup:
    return say(
        "<strong>{mark} The ledger of {arm} is refuted:</strong> {failed} Do not release this adapter "
        "under its claim.",
        mark=mark("refuted"),
        arm=code(finding.arm),
        failed=" ".join(map(_sentence, finding.failed)),
    )


def _sentence(check: Check) -> str:
    return f"{check.name.capitalize()}: {check.detail}."


def _caught(joins: Joins, finding: Placed[Inside]) -> Markup:
    at, num = finding.at, joins.num
    return say(
        "Had {arm} been trained with half of its noise, this test would have refuted its ledger {halved} "
        "of the time; with a third of it, {third}; with a σ of {noise}, which spends an ε of {epsilon}, "
        "{probability}.",
        arm=code(finding.part.arm),
        halved=num(f"{at}/power_halved", "percent_down"),
        third=num(f"{at}/power_third", "percent_down"),
        noise=num(f"{at}/caught/noise_multiplier", "two_down"),
        epsilon=num(f"{at}/caught/epsilon", "two_up"),
        probability=num(f"{at}/caught/probability", "percent"),
    )


def _outcomes(joins: Joins, name: str) -> Iterator[str]:
    for finding in joins.report.inside:
        outcomes = [check.outcome for check in finding.conformance if check.name == name]
        yield outcomes[0] if outcomes else "–"
