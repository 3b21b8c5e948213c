"""Whether secrets come out: exact ranks, repeated sampling, and personal fields of real records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.baselines import Blind
from dpaudit.findings.extraction import Discoverable, Extract, Extraction, PersonalFields, RanksOfLevel
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers, Placed, code, placed, say
from dpaudit.page.phrases import ABSENT, absence, broken_coins, is_alarmed, is_crossed, no_baseline

SIDES = "planted and kept out"
EQUAL_SECRETS = "controls have the same secret as one that was planted"


@dataclass(frozen=True)
class BesideTable:
    """What the texts alone tell of both sides of a table."""

    banner: Markup | None
    notes: tuple[Markup, ...]


@dataclass(frozen=True)
class SecretsRow:
    """One arm in the first table; all other cells are figures of its extraction."""

    at: str
    arm: str
    most: Markup  # bits that there can be


@dataclass(frozen=True)
class LevelRow:
    """One arm at one number of copies; `exposure` is the place of its exposures."""

    at: str
    arm: str
    exposure: str
    rests_on: str


@dataclass(frozen=True)
class PersonRow:
    """One arm's personal fields; no cells where it learned from none."""

    at: str
    arm: str
    trained_on: str
    cells: tuple[Markup, ...]


@dataclass(frozen=True)
class KindRow:
    """One kind of personal field of one arm."""

    at: str
    arm: str
    field: str


@dataclass(frozen=True)
class ExtractionSection:
    """The section as the template places it."""

    absent: Markup | None
    secrets: tuple[SecretsRow, ...]
    secrets_beside: tuple[BesideTable, ...]
    stretched: tuple[Placed[Extraction], ...]  # exposures that are extrapolated, by arm
    levels: tuple[LevelRow, ...]
    words: Markup | None  # how words are drawn
    rates: tuple[tuple[str, str], ...]  # arm, place of its figures at one number of attempts
    rates_beside: tuple[BesideTable, ...]
    attempts: tuple[Markup, ...]
    unit: str | None  # of the personal fields; None where none were tried
    persons: tuple[PersonRow, ...]
    kinds: tuple[KindRow, ...]
    persons_beside: tuple[BesideTable, ...]


def extraction(joins: Joins) -> ExtractionSection:
    report = joins.report
    secrets, sampled = placed("/extraction", report.extraction), placed("/discoverable", report.discoverable)
    unit = report.pii[0].unit if report.pii else None
    crossed = f"{unit}s that were left out have a record nearly the same as a record that was trained on"
    return ExtractionSection(
        absent=absence(report.stages.extraction, "this section"),
        secrets=tuple(_secrets_row(joins, row) for row in secrets),
        secrets_beside=tuple(_beside(joins, secrets, SIDES, EQUAL_SECRETS, "secrets")),
        stretched=tuple(
            Placed(f"{row.at}/exposure_extrapolated", row.part)
            for row in secrets
            if row.part.exposure_extrapolated
        ),
        levels=tuple(_levels(secrets)),
        words=_words(joins) if sampled else None,
        rates=tuple(
            (row.part.arm, rate.at) for row in sampled for rate in placed(f"{row.at}/rates", row.part.rates)
        ),
        rates_beside=() if secrets else tuple(_beside(joins, sampled, SIDES, EQUAL_SECRETS, "secrets")),
        attempts=tuple(_attempts(joins.num, row.at, row.part.arm) for row in sampled),
        unit=unit,
        persons=tuple(_person(joins.num, row) for row in placed("/pii", report.pii)),
        kinds=tuple(_kinds(joins)),
        persons_beside=tuple(_persons_beside(joins, crossed)),
    )


# ---- what the texts tell of both sides


def _beside(
    joins: Joins,
    rows: Sequence[Placed[Extraction]] | Sequence[Placed[Discoverable]],
    sides: str,
    equal: str,
    whose: str,
) -> Iterator[BesideTable]:
    """Once for all arms: they are compared on the same texts."""
    for at, finding in rows:
        if finding.blind is not None:
            yield _table(joins.num, at, finding, finding.blind, "", sides, equal, whose)
            return


def _persons_beside(joins: Joins, crossed: str) -> Iterator[BesideTable]:
    """Once for each kind of text that an arm learned from."""
    seen = set()
    for at, finding in placed("/pii", joins.report.pii):
        if finding.blind is not None and finding.trained_on not in seen:
            seen.add(finding.trained_on)
            sides, learnt = "trained on and left out", f" ({finding.trained_on})"
            yield _table(joins.num, at, finding, finding.blind, learnt, sides, crossed, f"{finding.unit}s")


def _table(
    num: Numbers, at: str, finding: Extract, blind: Blind, learnt: str, sides: str, equal: str, whose: str
) -> BesideTable:
    place = f"{at}/blind"
    banner = None
    if is_alarmed(blind):
        banner = broken_coins(num, place, whose, "This table supports no claim")
    baseline = say("{finding} {sides}", finding=no_baseline(blind), sides=sides)
    if blind.auc is not None:
        baseline = say(
            "a classifier that sees the texts alone separates {sides} with an AUC of {auc}; a random draw "
            "decided on each, so one half is expected",
            sides=sides,
            auc=num.area(place),
        )
    notes = [say("Blind baseline{learnt}: {baseline}.", learnt=learnt, baseline=baseline)]
    if is_crossed(finding.near_duplicates):
        notes.append(
            say(
                "<strong>On both sides of the coin:</strong> {crossed} {equal}.",
                crossed=num.counted(f"{at}/near_duplicates", "nonmembers_in_training", "nonmembers"),
                equal=equal,
            )
        )
    return BesideTable(banner, tuple(notes))


# ---- ranks


def _secrets_row(joins: Joins, row: Placed[Extraction]) -> SecretsRow:
    at, finding = row
    is_exact = bool(finding.exposure.planted or finding.exposure.controls)
    return SecretsRow(at, finding.arm, joins.num(f"{at}/exposure/space_bits", "one") if is_exact else ABSENT)


def _levels(rows: Sequence[Placed[Extraction]]) -> Iterator[LevelRow]:
    """The rows by number of copies; none where every secret has as many."""
    if not any(len(row.part.by_repetitions) > 1 for row in rows):
        return
    for at, finding in rows:
        for level in placed(f"{at}/by_repetitions", finding.by_repetitions):
            yield _level(finding.arm, level)


def _level(arm: str, level: Placed[RanksOfLevel]) -> LevelRow:
    if level.part.exposure_extrapolated:
        return LevelRow(level.at, arm, f"{level.at}/exposure_extrapolated", "extrapolated")
    return LevelRow(level.at, arm, f"{level.at}/exposure", "exact")


# ---- sampling


def _words(joins: Joins) -> Markup:
    """How words are drawn, and what never comes out in this way."""
    decoding, num = joins.report.discoverable[0].decoding, joins.num
    at = "/discoverable/0/decoding"
    kept, likely = Markup("all"), Markup("")
    if decoding.top_k:
        kept = say("the {top_k} likeliest", top_k=num(f"{at}/top_k", "count"))
    if decoding.top_p < 1:
        likely = say(", and of those from the likeliest {top_p}", top_p=num(f"{at}/top_p", "percent_one"))
    return say(
        "Words are drawn at temperature {temperature} from {kept}{likely}; a secret with a word outside of "
        "them never comes out in this way.",
        temperature=num(f"{at}/temperature", "number"),
        kept=kept,
        likely=likely,
    )


def _attempts(num: Numbers, at: str, arm: str) -> Markup:
    return say(
        "{arm}: attempts for the easiest planted secret: {planted}, the easiest control: {controls}; never "
        "come out {never_planted} planted, {never_controls} controls.",
        arm=code(arm),
        planted=num(f"{at}/fewest_planted", "attempts"),
        controls=num(f"{at}/fewest_controls", "attempts"),
        never_planted=num(f"{at}/never_planted", "count"),
        never_controls=num(f"{at}/never_controls", "count"),
    )


# ---- personal fields


def _person(num: Numbers, row: Placed[PersonalFields]) -> PersonRow:
    at, finding = row
    cells: list[Markup] = []
    if finding.members.fields or finding.non_members.fields:
        sides = [f"{at}/{side}" for side in ("members", "non_members")]
        cells += [_share(num, side, "completed", "fields", "") for side in sides]
        cells += [_share(num, side, "units_out", "units_tried", "units_") for side in sides]
    return PersonRow(at, finding.arm, finding.trained_on, tuple(cells))


def _share(num: Numbers, at: str, part: str, whole: str, prefix: str) -> Markup:
    limits = num.interval(at, f"{prefix}lower", f"{prefix}upper", "percent")
    return say("{counted} {limits}", counted=num.counted(at, part, whole), limits=limits)


def _kinds(joins: Joins) -> Iterator[KindRow]:
    for at, finding in placed("/pii", joins.report.pii):
        for place, kind in placed(f"{at}/by_kind", finding.by_kind):
            if kind.members.fields or kind.non_members.fields:
                yield KindRow(place, finding.arm, kind.field.replace("_", " "))
