"""The charts of the page, drawn from the findings that its tables show."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.membership import Membership
from dpaudit.findings.quality import Bits, TaskFigures
from dpaudit.findings.report import Adapter, Report
from dpaudit.page import figures
from dpaudit.page.figures import ClaimRow, Estimate, RocCurve, Rungs, Strip, Trace
from dpaudit.page.phrases import is_alarmed
from dpaudit.page.svg import Look

Looks = dict[str, Look]  # by arm


@dataclass(frozen=True)
class Charts:
    """The charts by name; one without its data is the empty text."""

    claims: Markup
    roc: Markup
    bits: Markup
    tasks: tuple[Markup, ...]
    exposure: Markup
    extrapolated: Markup
    loss: Markup
    clipped: Markup


def charts(report: Report) -> Charts:
    looks = looks_of(report.arms)
    primary = [audit for audit in report.audits if audit.primary and audit.bound]
    return Charts(
        claims=_claims(primary, _words(report), looks),
        roc=_roc(primary, looks),
        bits=_bits(report, looks),
        tasks=tuple(_tasks(report, looks)),
        exposure=_exposure(report, looks, "exposure"),
        extrapolated=_exposure(report, looks, "exposure_extrapolated"),
        loss=_traces(report.arms, looks, "loss", "training loss", "Training loss"),
        clipped=_traces(report.arms, looks, "clipped_share", "share of units clipped", "Clipping"),
    )


def looks_of(arms: Sequence[Adapter]) -> Looks:
    """Colour by rung of the ladder (0 = not private, then from the largest epsilon), marker by method and
    loss.
    """
    finite = sorted({arm.epsilon for arm in arms if arm.private}, reverse=True)
    losses = sorted({arm.loss for arm in arms if arm.method != "sft"})
    method = {"sft": 0} | {loss: 1 + index for index, loss in enumerate(losses)}
    return {
        arm.arm: Look(1 + finite.index(arm.epsilon) if arm.private else 0, method[arm.loss]) for arm in arms
    }


def _words(report: Report) -> dict[str, str]:
    """The verdict on each arm's own claim."""
    answers = report.together.answers if report.together else ()
    return {answer.arm: answer.verdict for answer in reversed(answers)}  # its own comes first


def _claims(primary: Sequence[Membership], words: Mapping[str, str], looks: Looks) -> Markup:
    rows = [
        ClaimRow(
            audit.arm,
            looks[audit.arm],
            words.get(audit.arm, "") if audit.claim else "no claim",
            audit.claim.epsilon if audit.claim else None,
            None if is_alarmed(audit.blind) else audit.bound.epsilon_lower,
            audit.bound.ceiling,
        )
        for audit in sorted(primary, key=lambda audit: audit.claim is None)  # the control last
        if audit.bound
    ]
    return Markup(figures.claims(rows, "claims") if rows else "")


def _roc(primary: Sequence[Membership], looks: Looks) -> Markup:
    curves = []
    for audit in primary:
        roc = audit.canaries.roc
        curves.append(RocCurve(audit.arm, looks[audit.arm], roc.fpr, roc.tpr, roc.tpr_lower, roc.tpr_upper))
    return Markup(figures.roc(curves, "roc") if curves else "")


def _bits(report: Report, looks: Looks) -> Markup:
    """Models of which nothing was held out have no point."""
    values = {model.arm: _of_bits(model.bits_per_byte) for model in report.quality if model.bits_per_byte}
    title, unit = "Held-out text, bits per byte", "bits per byte on held-out records (lower is better)"
    return _ladder(report.arms, values, looks, "bits", title, unit)


def _tasks(report: Report, looks: Looks) -> Iterable[Markup]:
    names = dict.fromkeys(task.task for model in report.quality for task in model.tasks)
    for index, name in enumerate(names):
        rows = {model.arm: task for model in report.quality for task in model.tasks if task.task == name}
        values = {arm: _of_task(task) for arm, task in rows.items()}
        title, chance = f"Accuracy on {name}", next(iter(rows.values())).chance
        yield _ladder(report.arms, values, looks, f"task{index}", title, f"accuracy on {name}", chance)


def _of_bits(bits: Bits) -> Estimate:
    return Estimate(bits.value, bits.lower, bits.upper)


def _of_task(task: TaskFigures) -> Estimate:
    return Estimate(task.accuracy, task.accuracy_lower, task.accuracy_upper)


def _ladder(
    arms: Sequence[Adapter],
    values: dict[str, Estimate],
    looks: Looks,
    name: str,
    title: str,
    unit: str,
    chance: float | None = None,
) -> Markup:
    """A measure over the epsilon ladder, one line per method and loss, with the base model as a level. What
    has chance is a share, in percent.
    """
    series, base, is_share = _series(arms, values, looks), values.get("base"), chance is not None
    if not series:
        return Markup("")
    drawn = figures.ladder(series, name, title=title, unit=unit, base=base, chance=chance, percent=is_share)
    return Markup(drawn)


def _series(arms: Sequence[Adapter], values: dict[str, Estimate], looks: Looks) -> list[Rungs]:
    lines: dict[str, list[tuple[float, Look, Estimate]]] = {}
    for arm in sorted(arms, key=lambda arm: arm.epsilon):
        if arm.arm in values:
            label = "SFT" if arm.method == "sft" else f"DPO {arm.loss}"
            lines.setdefault(label, []).append((arm.epsilon, looks[arm.arm], values[arm.arm]))
    return [Rungs(label, points[0][1].method, points) for label, points in lines.items()]


def _exposure(report: Report, looks: Looks, kind: str) -> Markup:
    """Exposures by rank, or those that were extrapolated: never both in one figure."""
    exposures = [
        (finding.arm, finding.exposure if kind == "exposure" else finding.exposure_extrapolated)
        for finding in report.extraction
    ]
    shown = [(arm, bits) for arm, bits in exposures if bits and (bits.planted or bits.controls)]
    if not shown:
        return Markup("")
    strips = [Strip(arm, looks[arm], bits.planted, bits.controls) for arm, bits in shown]
    most = max(bits.space_bits or max(*bits.planted, *bits.controls, 1.0) for _, bits in shown)
    return Markup(figures.exposure(strips, most, kind.replace("_", "-")))


def _traces(arms: Sequence[Adapter], looks: Looks, key: str, unit: str, title: str) -> Markup:
    lines = []
    for arm in arms:
        values = arm.steps.loss if key == "loss" else arm.steps.clipped_share
        pairs = [
            (step + 1, value)  # steps.jsonl counts from 0
            for step, value in zip(arm.steps.step, values, strict=False)
            if step is not None and value is not None and math.isfinite(value)
        ]
        if pairs:
            lines.append(Trace(arm.arm, looks[arm.arm], [s for s, _ in pairs], [v for _, v in pairs]))
    return Markup(figures.traces(lines, key.replace("_", "-"), title=title, unit=unit) if lines else "")
