"""Real units that a fair coin leaves out of the data for training: nothing is added, and nothing shows.

Units that are all but equal to another one are found by their texts before any coin is thrown, and get none:
what is left out would still be trained on. A copy that is worded differently costs power, not validity.
"""

import hashlib
import hmac
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpaudit.data import near_duplicates
from dpaudit.data.corpus import Record, unit_note
from dpaudit.data.near_duplicates import UnitTexts
from dpaudit.data.reading import read_records
from dpaudit.errors import UsageError
from dpaudit.planting import audit_key, data_file, places, plant
from dpaudit.planting.audit_key import AuditKey, HeldOut, Planted, Rule
from dpaudit.planting.edit import Edit
from dpaudit.planting.profile import Profile, profile_of
from dpaudit.planting.reach import told_of_rule
from dpaudit.planting.source import plain
from dpaudit.storage.custody import canonical

TITLE = "the answer of a real row"
TAKEN = "nothing: no row was added"
LONGEST = 1000  # characters of an answer that are scored, its last ones: they fit into a model's window
DEPENDS = "the number of rows, and with it the sampling rate, depends on the coins"

Unit = tuple[int, ...]  # the places of its rows, from 1


def hold_out(source: Path, out: Path, key: Path, count: int, unit: str = "record") -> dict[str, Any]:
    """Writes `source` without about half of `count` units as `out`, and the key of all `count`; returns a
    summary.

    Raises UsageError in one line, and writes nothing, where fewer units have no near-duplicate.
    """
    rule = plant.rule_for(count, "--hold-out")
    with places.held(out, key):
        plant.check_unit(unit)
        with plain(source) as file:
            data_file.check(file, out)
            return _hold_out(file, out, key, count, unit, rule)


def _hold_out(source: Path, out: Path, key: Path, count: int, unit: str, rule: Rule) -> dict[str, Any]:
    common = profile_of(source, unit)
    chosen = _candidates(source, _units(source, unit), count)
    coins = tuple(secrets.randbits(1) == 1 for _ in chosen)
    hash_key = audit_key.new_hash_key()
    left_out = [row for rows, stays in zip(chosen, coins, strict=True) if not stays for row in rows]
    parts = {
        "unit": unit,
        "family": TITLE,
        "rule": rule,
        "canaries": (),
        "coins": coins,
        "taken": TAKEN,
        "held_out": _held(source, chosen, hash_key),
    }
    edit = Edit(dropped=frozenset(row - 1 for row in left_out))
    made = plant.written(source, out, key, edit, common, parts, hash_key)
    return _told(source, out, key, made, common)


def restored(key: AuditKey, key_file: Path, data: Path | None) -> AuditKey:
    """The key with the texts of its units, read again from the file before planting.

    Raises UsageError where `data` is not that file.
    """
    if data is None:
        raise UsageError(
            "--data",
            f"the file before planting, from which the rows of {key_file} are read again",
            "no --data",
            "--data ORIGINAL",
        )
    wanted = {row for held in key.held_out for row in held.rows}
    there = {row: record for row, record in _rows(data) if row in wanted}
    secret = bytes.fromhex(key.hash_key)
    others = sum(
        not there.keys() >= set(held.rows)
        or digest_of([there[row] for row in held.rows], secret) != held.digest
        for held in key.held_out
    )
    if others:
        raise UsageError(
            f"--data {data}",
            "the file before planting, with the rows that the key knows",
            f"other rows for {others:,} of {len(key.held_out):,} units",
            "give the file that `plant` read, not the one that it wrote",
        )
    return replace(key, canaries=tuple(_scored(there[held.scored]) for held in key.held_out))


def rebuild(key: AuditKey, source: Path, target: Path) -> None:
    """Writes the file for training again, from the one before planting and the key's coins."""
    pairs = zip(key.held_out, key.coins, strict=True)
    left_out = frozenset(row - 1 for held, stays in pairs if not stays for row in held.rows)
    with plain(source) as file:
        data_file.write(file, target, Edit(dropped=left_out), profile_of(file, key.unit))


def digest_of(records: Sequence[Record], hash_key: bytes) -> str:
    """HMAC-SHA-256 of what the records say; ids and patients are no part of it."""
    said = [{**record.to_json(), "id": "", "patient": None} for record in records]
    return hmac.new(hash_key, canonical(said), hashlib.sha256).hexdigest()


def _scored(record: Record) -> Planted:
    """A row as the model is asked for it: the end of its answer is what counts."""
    asked = replace(record, id="", patient=None)
    return Planted(asked, _end(_answer(record)), _end(record.rejected) if record.rejected else None)


def _end(answer: str) -> str:
    return answer.strip()[-LONGEST:].strip()


def _answer(record: Record) -> str:
    return record.chosen or record.text or record.turns[-1].text


def _rows(source: Path) -> Iterator[tuple[int, Record]]:
    """The records of a file with their places, from 1: a line number would count blank lines."""
    return enumerate((record for _, record in read_records(str(source))), 1)


def _units(source: Path, unit: str) -> list[Unit]:
    """The rows of each unit."""
    found: dict[str | int, list[int]] = {}
    for row, record in _rows(source):
        found.setdefault((record.patient or row) if unit == "patient" else row, []).append(row)
    return [tuple(rows) for rows in found.values()]


def _candidates(source: Path, units: list[Unit], count: int) -> list[Unit]:
    """`count` units at random that have no near-duplicate among all units. No coin is thrown yet."""
    order = random.SystemRandom().sample(units, len(units))
    size = 2 * count
    while True:
        pool = order[:size]
        alike = _alike(source, pool, units)
        free = [rows for rows in pool if rows not in alike]
        if len(free) >= count:
            return free[:count]
        if size >= len(units):
            raise UsageError(
                "--hold-out",
                f"at most {len(free):,}, the units of {source} without a near-duplicate",
                f"{count:,}",
                "hold out fewer, or plant canaries",
            )
        size *= 2


def _alike(source: Path, pool: list[Unit], units: list[Unit]) -> set[Unit]:
    """The units of the pool whose whole text, or whose answer, is all but that of another unit."""
    wanted = {row for rows in pool for row in rows}
    texts = {row: _texts(record) for row, record in _rows(source) if row in wanted}
    drawn = [
        UnitTexts(str(number), tuple(text for row in rows for text in texts[row]), False)
        for number, rows in enumerate(pool)
    ]
    names = {row: str(number) for number, rows in enumerate(pool) for row in rows}
    found = near_duplicates.across(drawn, _all(source, names))
    return {pool[int(name)] for name in found.alike}


def _all(source: Path, names: Mapping[int, str]) -> Iterator[UnitTexts]:
    """Every row as a unit with its texts; rows of the pool under the names of their units."""
    for row, record in _rows(source):
        yield UnitTexts(names.get(row, f"row {row}"), _texts(record), False)


def _texts(record: Record) -> tuple[str, ...]:
    return (record.whole_text, _answer(record))


def _held(source: Path, chosen: Sequence[Unit], hash_key: bytes) -> tuple[HeldOut, ...]:
    wanted = {row for rows in chosen for row in rows}
    there = {row: record for row, record in _rows(source) if row in wanted}
    return tuple(
        HeldOut(
            rows,
            max(rows, key=lambda row: len(_answer(there[row]))),
            digest_of([there[row] for row in rows], hash_key),
        )
        for rows in chosen
    )


def _told(source: Path, out: Path, key: Path, made: AuditKey, profile: Profile) -> dict[str, Any]:
    """What the command prints; it does not reveal which units were left out."""
    notes = [note for note in (DEPENDS, unit_note(made.unit, len(profile.people), profile.named)) if note]
    return {
        "written": str(out),
        **plant.told_of_key(key, made, profile),
        "held_out": f"each of {len(made.coins):,} units with probability one half",
        **told_of_rule(made),
        "visibility": "none: no row was added",
        "commitment": audit_key.commitment(made),
        "renumbered": sorted(key for key, column in profile.columns.items() if column.is_row_number),
        "note": "; ".join(notes),
        "next": f"train on {out} as always, keep {key} and {source} away from the trainer, then: "
        f"dpaudit verify --adapter DIR --key {key} --data {source} --claim "
        f"eps=E,delta=D,unit={made.unit},relation=add_or_remove",
    }
