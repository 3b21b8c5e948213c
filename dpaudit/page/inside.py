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
    """One arm; all other cells are figures of its tests."""

    at: str
    arm: str
    ledger: Markup
    claim: Markup  # what the one-run bound says of it


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
        refuted=tuple(_refuted(finding.part) for finding in findings if finding.part.ledger == "refuted"),
        rows=tuple(_row(finding) for finding in findings),
        caught=tuple(_caught(joins, finding) for finding in findings),
        arms=tuple(finding.part.arm for finding in findings),
        checks=tuple((check.name, tuple(_outcomes(joins, check.name))) for check in first),
        unseen=tuple(_sentence(check) for check in first if check.outcome == "not observable"),
    )


def _row(finding: Placed[Inside]) -> InsideRow:
    at, part = finding
    word = part.one_run.verdict
    return InsideRow(
        at=at,
        arm=part.arm,
        ledger=say("{mark} {ledger}", mark=mark(part.ledger), ledger=part.ledger),
        claim=say("{mark} {word}", mark=mark(word), word=word),
    )


def _refuted(finding: Inside) -> Markup:
    seen = ""
    if finding.mechanism_test.verdict == "refuted":
        seen = "the canaries are more visible than noise, rate and steps in its ledger allow."
    failed = [f" {_sentence(check)}" for check in finding.conformance if check.outcome == "fail"]
    return say(
        "<strong>{mark} The ledger of {arm} is refuted:</strong> {seen}{failed} Do not release this "
        "adapter under its claim.",
        mark=mark("refuted"),
        arm=code(finding.arm),
        seen=seen,
        failed="".join(failed),
    )


def _sentence(check: Check) -> str:
    return f"{check.name.capitalize()}: {check.detail}."


def _caught(joins: Joins, finding: Placed[Inside]) -> Markup:
    at, num = finding.at, joins.num
    return say(
        "Had {arm} been trained with a σ of {noise}, which spends an ε of {epsilon}, this test would have "
        "refuted its ledger {probability} of the time.",
        arm=code(finding.part.arm),
        noise=num(f"{at}/caught/noise_multiplier", "two_down"),
        epsilon=num(f"{at}/caught/epsilon", "two_up"),
        probability=num(f"{at}/caught/probability", "percent"),
    )


def _outcomes(joins: Joins, name: str) -> Iterator[str]:
    for finding in joins.report.inside:
        outcomes = [check.outcome for check in finding.conformance if check.name == name]
        yield outcomes[0] if outcomes else "–"
