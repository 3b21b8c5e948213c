"""How the arms were trained, and what was checked in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.report import Adapter
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, codes, placed, say
from dpaudit.page.phrases import (
    ABSENT,
    absence,
)


@dataclass(frozen=True)
class TrainingRow:
    """One arm; the cells that depend on its mechanism, left to right."""

    at: str
    arm: str
    starts_from: Markup
    cells: tuple[Markup, ...]


@dataclass(frozen=True)
class TrainingSection:
    """The section as the template places it."""

    absent: Markup | None
    private: tuple[TrainingRow, ...]
    open: tuple[TrainingRow, ...]
    includes_start: bool  # an arm's spent epsilon covers another arm's
    measured: Markup | None  # where memory and speed were measured, and with how long sequences
    cut: Markup | None
    twice: Markup | None  # what an arm spends in all its trainings
    hashes: Markup
    custody: Markup
    arms: tuple[str, ...]
    guards: tuple[tuple[str, tuple[str, ...]], ...]  # check, whether it held arm by arm


def training(joins: Joins) -> TrainingSection:
    stage = joins.report.stages.train
    rows = [(arm.part.private, _row(joins, arm)) for arm in joins.arms]
    shown = [*joins.private, *joins.open]
    names = dict.fromkeys(name for arm in joins.report.arms for name in arm.training.guards)
    return TrainingSection(
        absent=absence(stage, "") if stage.state == "partial" else None,
        private=tuple(row for is_private, row in rows if is_private),
        open=tuple(row for is_private, row in rows if not is_private),
        includes_start=any(arm.starts_from in joins.arm_names for arm in joins.private),
        measured=_measured_on(joins),
        cut=_cut(joins),
        twice=_twice(joins),
        hashes=_hashes(joins),
        custody=_custody(joins),
        arms=tuple(arm.arm for arm in shown),
        guards=tuple((name, tuple(_held(shown, name))) for name in names),
    )


def _row(joins: Joins, arm: Placed[Adapter]) -> TrainingRow:
    at, part = arm
    start = part.starts_from
    return TrainingRow(
        at=at,
        arm=part.arm,
        starts_from=code(start) if start in joins.arm_names else say("{start}", start=start),
        cells=(*_spent(joins, arm), *_acted(joins, arm), *_took(joins, arm)),
    )


def _spent(joins: Joins, arm: Placed[Adapter]) -> Iterator[Markup]:
    (at, part), num = arm, joins.num
    yield num(f"{at}/privacy/claim/epsilon", "epsilon") if part.private else Markup("none")
    yield num(f"{at}/privacy/epsilon_pld", "three_up")
    has_second = part.privacy.epsilon_rdp is not None
    yield num(f"{at}/privacy/epsilon_rdp", "three_up") if has_second else ABSENT


def _acted(joins: Joins, arm: Placed[Adapter]) -> Iterator[Markup]:
    """Noise, clip, rate and steps; of randomised response, how often labels are turned."""
    (at, part), num = arm, joins.num
    place = f"{at}/privacy/mechanism"
    if part.privacy.mechanism.name is not None:
        turned = num(f"{place}/flip_probability", "three")
        yield say("none: labels flipped with probability {turned}", turned=turned)
        yield Markup("none")
        yield from (ABSENT, ABSENT)
        return
    yield num(f"{place}/noise_multiplier", "sigma")
    yield num(f"{place}/clip", "number") if part.private else Markup("none")
    yield num(f"{place}/sampling_rate", "number")
    yield num(f"{place}/steps", "count")


def _took(joins: Joins, arm: Placed[Adapter]) -> Iterator[Markup]:
    (at, part), num = arm, joins.num
    figures = part.training
    for key, style, value in (
        ("trainable_parameters", "count", figures.trainable_parameters),
        ("peak_memory_mb", "megabytes", figures.peak_memory_mb),
        ("tokens_per_second", "count", figures.tokens_per_second),
    ):
        yield ABSENT if value is None else num(f"{at}/training/{key}", style)
    yield num(f"{at}/training/seconds", "duration")


def _measured_on(joins: Joins) -> Markup | None:
    places = [
        say(
            "{arm}: {devices} × {device}, {longest} tokens",
            arm=code(arm.arm),
            devices=joins.num(f"{at}/training/devices", "count"),
            device=joins.num(f"{at}/training/device"),
            longest=joins.num(f"{at}/training/longest", "count"),
        )
        for at, arm in joins.arms
        if arm.training.device is not None
    ]
    if not places:
        return None
    return say(
        "Peak memory is that of one device, or of the whole process on a processor; longer sequences take "
        "more. Devices and longest sequences: {places}.",
        places=Markup("; ").join(places),
    )


def _cut(joins: Joins) -> Markup | None:
    cut = [
        say("{arm} {cut}", arm=code(arm.arm), cut=joins.num(f"{at}/training/sequences_truncated", "count"))
        for at, arm in joins.arms
        if arm.training.sequences_truncated
    ]
    if not cut:
        return None
    length = joins.num("/run/max_length", "count")
    return say("Sequences cut at {length} tokens: {cut}.", length=length, cut=Markup(", ").join(cut))


def _twice(joins: Joins) -> Markup | None:
    together = joins.report.together
    if together is None or not together.twice:
        return None
    spent = [
        say(
            "{arm} ε = {epsilon} at δ = {delta}",
            arm=code(twice.arm),
            epsilon=joins.num(f"{at}/epsilon", "two_up"),
            delta=joins.num(f"{at}/delta", "delta"),
        )
        for at, twice in placed("/together/twice", together.twice)
    ]
    return say(
        "Each adapter was trained {times} times on the same data, in {runs} and in this repeat. Whoever has "
        "all trainings of one adapter, and no other adapter of these runs, faces: {spent}. What all private "
        "adapters of all these runs spend together stands at the top of the page.",
        times=joins.num("/together/twice/0/trainings", "count"),
        runs=codes(together.repeats),
        spent=Markup("; ").join(spent),
    )


def _hashes(joins: Joins) -> Markup:
    hashes = [
        say("{arm} <code>{hash}</code>", arm=code(arm.arm), hash=joins.num(f"{at}/adapter_sha256"))
        for at, arm in joins.arms
    ]
    return say("Weights, by their hash: {hashes}.", hashes=Markup("; ").join(hashes))


def _custody(joins: Joins) -> Markup:
    noted = Markup("")
    if joins.report.run.commitment:
        noted = say(
            " Commitment of the training, to compare with the one noted down before: "
            "<code>{commitment}</code>.",
            commitment=joins.num("/run/commitment"),
        )
    return say("Files of the run: {custody}.{noted}", custody=joins.num("/run/custody"), noted=noted)


def _held(arms: Sequence[Adapter], name: str) -> Iterator[str]:
    for arm in arms:
        yield "held" if name in arm.training.guards else "–"
