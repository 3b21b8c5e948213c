"""Canaries in a data file for training elsewhere: each goes in or stays out by a fair coin, which is kept in
the key.
"""

import json
import os
import random
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast, get_args

from dpaudit.data import shapes
from dpaudit.data.columns import Fields
from dpaudit.data.corpus import Record, unit_note
from dpaudit.data.shapes import Shape
from dpaudit.errors import UsageError, unread
from dpaudit.planting import audit_key, disguise, natural, planted_rows, visibility
from dpaudit.planting.audit_key import AuditKey, Planted, PlantedUnit, Rule
from dpaudit.planting.disguise import Column
from dpaudit.planting.families import FAMILIES, NAMES, NATURAL
from dpaudit.planting.planted_rows import PlantedRow
from dpaudit.planting.profile import Profile, lines_of, profile_of
from dpaudit.planting.visibility import Visibility
from dpaudit.signals import recipe
from dpaudit.storage import lock
from dpaudit.storage.custody import keyed_file_digest
from dpaudit.storage.exclusive import remove_left
from dpaudit.storage.whole_files import left_of, whole_file

CANARIES_MOST = 20_000
CROWD = 0.2  # of the planted rows
CROWDED = (
    "more than a fifth of the rows are canaries: the model learns to speak like them; give more rows "
    "or fewer canaries"
)
PRIMARY, WITHOUT_BASE = "calibrated", "loss"
RENDERINGS = ("chat", "question", "alpaca", "plain")


def plant(
    source: Path, out: Path, key: Path, canaries: int = 500, unit: str = "record", family: str = "invented"
) -> dict[str, Any]:
    """Writes `source` with canaries as `out`, and the key that finds them again; returns a summary.

    Rows of the source stay as they are, in their order, but for a column that only numbers them. Raises
    UsageError in one line, and writes nothing, where no canary fits the data or a file exists already.
    """
    rule = _rule(canaries)
    _check_places(out, key)
    with lock.held(out), lock.held(key):
        _drop_unfinished(out, key)
        remove_left(out)
        remove_left(key)
        return _plant(source, out, key, canaries, unit, family, rule)


def _plant(
    source: Path, out: Path, key: Path, canaries: int, unit: str, family: str, rule: Rule
) -> dict[str, Any]:
    _check(source, out, key, unit, family)
    common = profile_of(source, unit)
    rows = _rows(canaries, common, family, str(source))
    coins = tuple(secrets.randbits(1) == 1 for _ in rows)
    records = [_planted(made.row, common.shape, str(source)) for made in rows]
    kept = tuple(Planted(r, made.secret, made.other) for r, made in zip(records, rows, strict=True))
    hash_key = audit_key.new_hash_key()
    inserted = [made.line for made, coin in zip(rows, coins, strict=True) if coin]
    random.SystemRandom().shuffle(inserted)
    with whole_file(out) as data_part:  # renamed last: its presence means that both are whole
        _write_data(source, data_part, inserted, common)
        digest = keyed_file_digest(data_part, hash_key)
        total = common.rows + len(inserted)
        made = AuditKey(
            cast(PlantedUnit, unit),
            natural.TITLE if family == NATURAL else FAMILIES[family].title,
            common.shape.name,
            total,
            rule,
            kept,
            coins,
            digest,
            hash_key.hex(),
            salt=secrets.token_hex(32),
            visibility=_seen(records, [made.donor for made in rows], common),
            bits=int(min(made.bits for made in rows)),
            taken=natural.TAKEN if family == NATURAL else planted_rows.NOTHING,
        )
        with whole_file(key) as key_part:
            audit_key.write(made, key_part)
    return _told(source, out, key, made, common)


def _rows(canaries: int, common: Profile, family: str, source: str) -> list[PlantedRow]:
    if family == NATURAL:
        return natural.made(canaries, common, source)
    return planted_rows.made(canaries, common, FAMILIES[family], source)


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


def _rule(canaries: int) -> Rule:
    """The rule that will guess the coins. Raises UsageError for too few or too many canaries."""
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
    if not primary.minimum_canaries <= canaries <= CANARIES_MOST:
        raise UsageError("--canaries", f"{primary.minimum_canaries} to {CANARIES_MOST:,}", f"{canaries:,}")
    return Rule(primary, without, primary.bound.guess.count(canaries), RENDERINGS)


def _check_places(out: Path, key: Path) -> None:
    for name, file in (("--out", out), ("--key", key)):
        if not file.parent.is_dir():
            raise UsageError(f"{name} {file}", "a folder that exists", "no such folder")


def _drop_unfinished(out: Path, key: Path) -> None:
    """Removes a key whose data were never renamed because of a kill: nobody can have trained on them, and no
    other key fits them.
    """
    if out.exists() or not key.is_file():
        return
    for part in left_of(out):
        with suppress(UsageError):  # not one of our keys
            made = audit_key.load(key)
            if keyed_file_digest(part, bytes.fromhex(made.hash_key)) == made.data_digest:
                key.unlink()
                return


def _check(source: Path, out: Path, key: Path, unit: str, family: str) -> None:
    if family not in NAMES:
        raise UsageError("--family", f"one of {', '.join(NAMES)}", f"{family:.40}")
    if unit not in get_args(PlantedUnit):
        raise UsageError("--unit", f"one of {', '.join(get_args(PlantedUnit))}", f"{unit:.40}")
    for name, file in (("--out", out), ("--key", key)):
        if file.exists() or file.is_symlink():
            raise UsageError(
                f"{name} {file}",
                "a file that is not there yet",
                "an existing file",
                "name another: an existing file is never overwritten",
            )
    if out.resolve() == key.resolve():
        raise UsageError("--key", "another file than --out", "the same file")
    _check_lines(source)


def _check_lines(source: Path) -> None:
    """Raises UsageError where the data are no JSON lines: a planted row must look like those around it, byte
    by byte.
    """
    try:
        with source.open("rb") as stream:
            start = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise unread(source, "a JSONL file", error) from None
    if source.suffix.lower() not in (".jsonl", ".ndjson", ".json") or not start.startswith(b"{"):
        raise UsageError(
            str(source),
            "JSONL, one JSON object a line",
            "another kind of file",
            "convert it, plant, and convert back",
        )


def _planted(row: Fields, shape: Shape, source: str) -> Record:
    """A planted row as the data's reader reads it; the audit does not need its id, which stays out of the
    key.
    """
    parsed = shapes.record(shape, row, source, 0)
    return Record("", parsed.turns, None, parsed.chosen, parsed.rejected, parsed.text)


def _write_data(source: Path, target: Path, inserted: list[str], profile: Profile) -> None:
    """The lines of the source with those inserted at random places; a column of row numbers counts on through
    both.
    """
    rng = random.SystemRandom()
    total = profile.rows + len(inserted)
    places = set(rng.sample(range(total), len(inserted)))
    numbering = [key for key, column in profile.columns.items() if column.is_row_number]
    old, new = lines_of(source), iter(inserted)
    with source.open("rb") as raw:
        head = raw.readline()
    mark, end = head.startswith(b"\xef\xbb\xbf"), "\r\n" if head.endswith(b"\r\n") else "\n"
    first = {
        key: (_first_number(profile.columns[key], profile.rows), profile.columns[key].width)
        for key in numbering
    }
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, source.stat().st_mode & 0o777)  # the same permissions as the source
    with os.fdopen(descriptor, "w", encoding="utf-8-sig" if mark else "utf-8", newline="") as stream:
        for place in range(total):
            line = next(new) if place in places else next(old)
            stream.write((_numbered(line, first, place) if first else line) + end)
        stream.flush()
        os.fsync(stream.fileno())


def _first_number(column: Column, rows: int) -> int:
    assert column.last is not None
    return column.last[1] - rows + 1


def _numbered(line: str, first: dict[str, tuple[int, int]], place: int) -> str:
    """`line` with the number of its place; `first` has the number of the first row and its width, by
    column.
    """
    row = json.loads(line)
    write = disguise.spelled_like(line, row)
    for key, (number, width) in first.items():
        row[key] = disguise.renumbered(row[key], number + place, width)
    return write(row)


def _shown(seen: Visibility | None) -> dict[str, Any]:
    if seen is None:
        return {"visibility": f"not measured: the file has fewer than {visibility.FEWEST} rows"}
    return {
        "visibility_auc": seen.auc,
        "visibly_planted": seen.found,
        "visibility": f"a text classifier, taught on other rows, of {seen.planted} canaries and {seen.real} "
        "real rows; visibly planted: at 1 % false alarms",
    }


def _told(source: Path, out: Path, key: Path, made: AuditKey, profile: Profile) -> dict[str, Any]:
    """What the command prints; it does not reveal which canaries went in, or how many."""
    from dpaudit.stats.epsilon import epsilon_ceiling_one_run

    bound = made.rule.primary.bound
    assert bound is not None
    crowded = CROWDED if made.rows - profile.rows > CROWD * made.rows else ""
    notes = [note for note in (crowded, unit_note(made.unit, len(profile.people), profile.named)) if note]
    ceiling = epsilon_ceiling_one_run(
        canaries=len(made.coins), guesses=made.rule.guesses, delta=1e-5, confidence=bound.confidence
    )
    return {
        "planted": str(out),
        "key": str(key),
        "shape": profile.shape.name,
        "unit": made.unit,
        "rows_read": profile.rows,
        "rows_written": made.rows,
        "canaries": len(made.coins),
        "guesses": made.rule.guesses,
        "epsilon_ceiling": ceiling,
        "ceiling_delta": 1e-5,
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
