"""What stands apart since no epsilon covers it: the same attacks on real records."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.membership import Membership, Records
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, say
from dpaudit.page.phrases import broken_coins, is_alarmed, is_crossed, no_baseline


@dataclass(frozen=True)
class RecordsRow:
    """One recipe on one arm's real records; all other cells are figures."""

    at: str
    arm: str | None  # in the first row of its arm alone
    recipe: str


@dataclass(frozen=True)
class InternalSection:
    """The table on real records, and what weakens it."""

    groups: tuple[tuple[RecordsRow, ...], ...]  # by arm
    silent: tuple[Markup, ...]  # arms without noise on which the attack finds nothing
    banners: tuple[tuple[Markup | None, tuple[Markup, ...]], ...]  # by method: what bars it, what is noted


def internal(joins: Joins) -> InternalSection:
    groups = [tuple(_records_rows(joins, arm)) for arm in joins.arm_names]
    return InternalSection(
        groups=tuple(group for group in groups if group),
        silent=tuple(_silent(joins)),
        banners=tuple(_by_method(joins)),
    )


def _records_rows(joins: Joins, arm: str) -> Iterator[RecordsRow]:
    audits = [audit for audit in joins.audits if audit.part.arm == arm and audit.part.records]
    for index, audit in enumerate(audits):
        yield RecordsRow(audit.at, None if index else arm, audit.part.recipe)


def _silent(joins: Joins) -> Iterator[Markup]:
    for _, finding in joins.audits:
        records = finding.records
        is_control = finding.primary and not finding.claim
        if is_control and records and records.auc_lower <= 0.5 <= records.auc_upper:
            yield say(
                "<strong>Here the attack finds nothing even on {arm}, trained without noise:</strong> its "
                "interval includes one half. So a figure near one half in this table is not a sign of "
                "privacy.",
                arm=code(finding.arm),
            )


def _by_method(joins: Joins) -> Iterator[tuple[Markup | None, tuple[Markup, ...]]]:
    """Once for each method, by its first arm: all arms of a method learn from the same texts."""
    seen = set()
    for arm in joins.report.arms:
        first = next((a for a in joins.audits if a.part.arm == arm.arm and a.part.records), None)
        if first is not None and first.part.records and arm.method not in seen:
            seen.add(arm.method)
            at = f"{first.at}/records"
            yield _barred(joins, at, first.part, arm.method), tuple(_noted(joins, first, arm.method))


def _barred(joins: Joins, at: str, finding: Membership, method: str) -> Markup | None:
    if finding.records is None or not is_alarmed(finding.records.blind):
        return None
    whose = f"{joins.report.run.unit}s"
    return broken_coins(joins.num, f"{at}/blind", whose, f"The rows of {method} adapters support no claim")


def _noted(joins: Joins, audit: Placed[Membership], method: str) -> Iterator[Markup]:
    records, at = audit.part.records, f"{audit.at}/records"
    if records is None:
        return
    if records.blind is not None and not is_alarmed(records.blind):
        baseline = say("{finding} members or others", finding=no_baseline(records.blind))
        if records.blind.auc is not None:
            baseline = say(
                "from the texts alone, AUC {auc}",
                auc=joins.num.area(f"{at}/blind"),
            )
        yield say("Blind baseline of {method} adapters: {baseline}.", method=method, baseline=baseline)
    if is_crossed(records.near_duplicates):
        yield _crossed(joins, audit, records, method)
    if records.per.records_most is not None:
        yield say(
            "One score here belongs to a patient: {score}; a patient of {method} adapters has {least} to "
            "{most}.",
            score=records.per.score,
            method=method,
            least=joins.num(f"{at}/per/records_least", "count"),
            most=joins.num(f"{at}/per/records_most", "count"),
        )


def _crossed(joins: Joins, audit: Placed[Membership], records: Records, method: str) -> Markup:
    """Near-duplicates across the coin, and the AUC without them where there are enough others."""
    num, at = joins.num, f"{audit.at}/records/near_duplicates"
    without = Markup("")
    if records.near_duplicates and records.near_duplicates.auc_without is not None:
        without = say(
            ". Without all {alike} that have a near-duplicate anywhere, the AUC of {arm} by {recipe} is "
            "{auc}",
            alike=num(f"{at}/alike", "count"),
            arm=code(audit.part.arm),
            recipe=audit.part.recipe,
            auc=num.area(at, "auc_without"),
        )
    return say(
        "<strong>Near-duplicates across the coin, {method} adapters:</strong> {left_out} {unit}s that were "
        "left out have a record nearly the same as a record that was trained on, and {members} members "
        "have a record like one that was left out. Such a {unit} looks like a member in either "
        "case{without}.",
        method=method,
        left_out=num.counted(at, "nonmembers_in_training", "nonmembers"),
        members=num.counted(at, "members_among_nonmembers", "members"),
        unit=joins.report.run.unit,
        without=without,
    )
