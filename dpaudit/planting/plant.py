"""Canaries in a data file for training elsewhere: each goes in or stays out by a fair coin, which is kept in
the key.
"""

import random
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

from dpaudit.data import shapes
from dpaudit.data.columns import Fields
from dpaudit.data.corpus import Record, unit_note
from dpaudit.data.shapes import Shape
from dpaudit.errors import UsageError
from dpaudit.planting import audit_key, data_file, natural, places, planted_rows, visibility
from dpaudit.planting.audit_key import AuditKey, Planted, PlantedUnit, Rule
from dpaudit.planting.edit import Edit
from dpaudit.planting.families import FAMILIES, NATURAL, NATURAL_TITLE, named
from dpaudit.planting.planted_rows import PlantedRow
from dpaudit.planting.profile import Profile, profile_of
from dpaudit.planting.reach import CANARIES_MOST, told_of_rule
from dpaudit.planting.source import plain
from dpaudit.planting.visibility import Visibility
from dpaudit.signals import recipe
from dpaudit.storage.custody import keyed_file_digest
from dpaudit.storage.whole_files import whole_file

CROWD = 0.2  # of the planted rows
CROWDED = (
    "more than a fifth of the rows are canaries: the model learns to speak like them; give more rows "
    "or fewer canaries"
)
PRIMARY, WITHOUT_BASE = "calibrated", "total_loss"
RENDERINGS = ("chat", "question", "alpaca", "plain")


def plant(
    source: Path,
    out: Path,
    key: Path,
    canaries: int = 500,
    unit: str = "record",
    family: str = "invented",
    drop: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes `source` with canaries as `out`, and the key that finds them again; returns a summary.

    Rows of the source stay as they are, in their order, but for a column that only numbers them, and for
    those of `drop`, which are left out. Raises UsageError in one line, and writes nothing, where no canary
    fits the data or a file exists already.
    """
    rule = rule_for(canaries, "--canaries")
    with places.held(out, key):
        family = named(family)
        check_unit(unit)
        with plain(source, drop) as file:
            data_file.check(file, out)
            return _plant(file, out, key, canaries, unit, family, rule)


def _plant(
    source: Path, out: Path, key: Path, canaries: int, unit: str, family: str, rule: Rule
) -> dict[str, Any]:
    common = profile_of(source, unit)
    rows = _rows(canaries, common, family, str(source))
    coins = tuple(secrets.randbits(1) == 1 for _ in rows)
    records = [_planted(made.row, common.shape, str(source)) for made in rows]
    kept = tuple(Planted(r, made.secret, made.other) for r, made in zip(records, rows, strict=True))
    inserted = [made.line for made, coin in zip(rows, coins, strict=True) if coin]
    random.SystemRandom().shuffle(inserted)
    parts = {
        "unit": cast(PlantedUnit, unit),
        "family": NATURAL_TITLE if family == NATURAL else FAMILIES[family].title,
        "rule": rule,
        "canaries": kept,
        "coins": coins,
        "visibility": _seen(records, [made.donor for made in rows], common),
        "bits": int(min(made.bits for made in rows)),
        "taken": _taken(rows, family),
    }
    made = written(source, out, key, Edit(tuple(inserted)), common, parts, audit_key.new_hash_key())
    return _told(source, out, key, made, common)


def written(
    source: Path, out: Path, key: Path, edit: Edit, common: Profile, parts: dict[str, Any], hash_key: bytes
) -> AuditKey:
    """Writes the edited data and the key of `parts` and of what the files add to them."""
    with whole_file(out) as data_part:  # renamed last: its presence means that both are whole
        data_file.write(source, data_part, edit, common)
        made = AuditKey(
            shape=common.shape.name,
            rows=common.rows + len(edit.added) - len(edit.dropped),
            data_digest=keyed_file_digest(data_part, hash_key),
            hash_key=hash_key.hex(),
            salt=secrets.token_hex(32),
            **parts,
        )
        with whole_file(key) as key_part:
            audit_key.write(made, key_part)
    return made


def check_unit(unit: str) -> None:
    if unit not in get_args(PlantedUnit):
        raise UsageError("--unit", f"one of {', '.join(get_args(PlantedUnit))}", f"{unit:.40}")


def _rows(canaries: int, common: Profile, family: str, source: str) -> list[PlantedRow]:
    if family == NATURAL:
        return natural.made(canaries, common, source)
    return planted_rows.made(canaries, common, FAMILIES[family], source)


def _taken(rows: Sequence[PlantedRow], family: str) -> str:
    """What the canaries have of the data."""
    if family != NATURAL:
        return planted_rows.NOTHING
    return natural.TAKEN.format(copied=max(made.copied for made in rows))


def _seen(planted: Sequence[Record], donors: Sequence[int | None], common: Profile) -> Visibility | None:
    """How visible the canaries are, in or out: as many of them as there are real rows to compare."""
    rng, rows = random.SystemRandom(), len(common.sample)
    count = min(len(planted), rows, visibility.MOST)
    chosen, real = rng.sample(range(len(planted)), count), rng.sample(range(rows), count)
    groups = [rows + at if (donor := donors[at]) is None else donor for at in chosen]
    return visibility.visibility(
        [planted[at].whole_text for at in chosen],
        [common.sample[at].record.whole_text for at in real],
        [*groups, *real],
    )


def rule_for(count: int, option: str) -> Rule:
    """The rule that will guess the coins. Raises UsageError for too few or too many of them."""
    primary, without = recipe.load(PRIMARY), recipe.load(WITHOUT_BASE)
    for made_by in (primary, without):
        if not audit_key.can_be_asked(made_by):
            raise UsageError(
                f"attacks/{made_by.name}",
                "a recipe with a bound that needs a model's log-probabilities alone",
                "another recipe",
                f"rename the file in ./attacks: `plant` takes the recipe {made_by.name}",
            )
    assert primary.bound is not None
    if not primary.minimum_canaries <= count <= CANARIES_MOST:
        raise UsageError(option, f"{primary.minimum_canaries} to {CANARIES_MOST:,}", f"{count:,}")
    return Rule(primary, without, primary.bound.guess.count(count), RENDERINGS)


def _planted(row: Fields, shape: Shape, source: str) -> Record:
    """A planted row as the data's reader reads it; the audit does not need its id, which stays out of the
    key.
    """
    parsed = shapes.record(shape, row, source, 0)
    return Record("", parsed.turns, None, parsed.chosen, parsed.rejected, parsed.text)


def _shown(seen: Visibility | None) -> dict[str, Any]:
    if seen is None:
        return {"visibility": f"not measured: the file has fewer than {visibility.FEWEST} rows"}
    return {
        "visibility_auc": seen.auc,
        "visibly_planted": seen.found,
        "visibility": f"a text classifier, taught on other rows, of {seen.planted} canaries and {seen.real} "
        "real rows, by their texts alone; visibly planted: at 1 % false alarms",
    }


def _told(source: Path, out: Path, key: Path, made: AuditKey, profile: Profile) -> dict[str, Any]:
    """What the command prints; it does not reveal which canaries went in, or how many."""
    crowded = CROWDED if made.rows - profile.rows > CROWD * made.rows else ""
    notes = [note for note in (crowded, unit_note(made.unit, len(profile.people), profile.named)) if note]
    return {
        "planted": str(out),
        **told_of_key(key, made, profile),
        "canaries": len(made.coins),
        **told_of_rule(made),
        "secret_bits": made.bits,
        "taken_from_the_data": made.taken,
        **_shown(made.visibility),
        "commitment": audit_key.commitment(made),
        "renumbered": sorted(key for key, column in profile.columns.items() if column.is_row_number),
        **({"note": "; ".join(notes)} if notes else {}),
        "next": f"train on {out} as always, keep {key} away from the trainer, then: "
        f"dpaudit verify --adapter DIR --key {key} --data {out} --claim "
        f"eps=E,delta=D,unit={made.unit},relation=add_or_remove",
    }


def told_of_key(key: Path, made: AuditKey, profile: Profile) -> dict[str, Any]:
    return {
        "key": str(key),
        "shape": profile.shape.name,
        "unit": made.unit,
        "rows_read": profile.rows,
        "rows_written": made.rows,
    }
