"""Records on disk, indexed by unit: memory does not grow with their number."""

import errno
import hashlib
import heapq
import json
import random
import sqlite3
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpaudit.data.corpus import Part, Record, unit_of
from dpaudit.data.scripts import script_of
from dpaudit.errors import UsageError

PARTS: tuple[Part, ...] = ("records", "pairs", "texts")
PART = (
    1 << 40
)  # numbers of one part; a unit's place is that of its first record, and dialogues come before pairs
HELDOUT_SHARE = 6  # one record in so many is proposed to be held out where more are asked for than there are
PAIRS_SHARE = 10  # at most one pair in so many is held out beside the dialogues' own
NO_ROOM = {
    "SQLITE_FULL": errno.ENOSPC,
    "SQLITE_IOERR": errno.ENOSPC,  # also raised at a limit on the size of files
    "SQLITE_CANTOPEN": errno.EACCES,
    "SQLITE_READONLY": errno.EROFS,
}
ZEROS = """SELECT 1 FROM entries AS one
JOIN entries AS other ON other.unit = CAST(CAST(one.unit AS INTEGER) AS TEXT)
WHERE one.unit GLOB '0[0-9]*' AND NOT one.unit GLOB '*[^0-9]*' LIMIT 1"""
Row = dict[str, Any]


class CorpusStore:
    """Dialogues, pairs and texts of one corpus in a work file (in memory without `folder`), grouped by
    `unit`.

    Units come in the order of their first record. `heldout` and `heldout_pairs` are dialogues and pairs that
    no arm trains on. Fill it with `add`, then `index` it once; everything else comes after that.
    """

    def __init__(self, source: str, unit: str, folder: Path | None = None) -> None:
        self.source, self.unit = source, unit
        self.heldout: list[Row] = []
        self.heldout_pairs: list[Row] = []
        self.over_cap = 0  # records left out by `cap`
        self.notes: list[str] = []  # what a user should know of the data
        self.scripts: Counter[str] = Counter()  # records of every part that were read, by script
        with _room():
            self._database = sqlite3.connect(":memory:" if folder is None else folder / "corpus.sqlite")
        for setting in ("journal_mode = OFF", "synchronous = OFF"):  # a killed run begins again
            self._run(f"PRAGMA {setting}")
        self._database.create_function("lot", 2, _lot, deterministic=True)
        self._run(
            "CREATE TABLE entries(number INTEGER PRIMARY KEY, part INTEGER, id TEXT, patient TEXT, unit "
            "TEXT, body TEXT)"
        )

    def add(self, part: Part, records: Iterable[tuple[int, Record]], source: str) -> None:
        """Stores one part's records, each given with its line.

        Raises UsageError naming `source` and the line of a repeated id, or of the first record without a
        patient where the unit is one.
        """
        base = PARTS.index(part) * PART
        named = self._with_patients(records, source) if self.unit == "patient" else records
        rows = (
            (base + line, PARTS.index(part), r.id, r.patient, unit_of(r, self.unit), json.dumps(r.to_json()))
            for line, r in self._counted(named)
        )
        with _room():
            self._database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
        [(again, first, count)] = self._all(  # SQLite takes `first` from the row with the least number
            "SELECT min(later.number), first, count(*) FROM (SELECT id, min(number) AS first FROM "
            "entries WHERE part = ? GROUP BY id "
            "HAVING count(*) > 1) JOIN entries AS later USING (id) WHERE later.part = ? AND later.number "
            "> first",
            PARTS.index(part),
            PARTS.index(part),
        )
        if again is not None:
            more = f", one of {count:,} rows that repeat an id" if count > 1 else ""
            raise UsageError(
                f"{source}:{again - base}: id",
                "an id that occurs once",
                f"the id of row {first - base} again{more}",
                "make ids unique, or leave the column out",
            )

    def _counted(self, records: Iterable[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
        for line, record in records:
            self.scripts[script_of(record.whole_text)] += 1
            yield line, record

    def _with_patients(
        self, records: Iterable[tuple[int, Record]], source: str
    ) -> Iterator[tuple[int, Record]]:
        """The records. Raises UsageError where some name no patient, after counting these to the end of the
        data.
        """
        lines, first, without = 0, 0, 0
        for line, record in records:
            lines += 1
            if record.patient is None:
                first, without = first or line, without + 1
            elif not without:
                yield line, record
        if without:
            raise UsageError(
                f"{source}:{first}: patient_id",
                "a patient for every record under unit patient",
                f"no patient on {without:,} of {lines:,} lines",
                "name patients in the data or use unit record",
            )

    def index(self) -> None:
        """Builds the index of units, which `units` and all methods below need.

        Raises UsageError where 003 and 3 would be two patients: a table that takes ids for numbers makes 3 of
        003.
        """
        self._run("CREATE INDEX by_unit ON entries(unit, number)")
        if self.unit == "patient" and self._one(ZEROS) is not None:
            raise UsageError(
                "data: patient_id",
                "numbers written in one way",
                "the same number with and without leading zeros",
                "write both as text, the same in every file",
            )

    def cap(self, most: int, seed: int) -> None:
        """Keeps at most `most` records of each patient in each part: the first ones of a shuffle that does
        not depend on other patients.
        """
        self._run("CREATE INDEX by_patient ON entries(patient, part, number)")
        self._run("CREATE TABLE dropped(number INTEGER)")
        crowded = self._all(
            "SELECT patient, part FROM entries WHERE patient NOT NULL GROUP BY patient, part HAVING count(*) "
            "> ?",
            most,
        )
        for patient, part in crowded:
            query = "SELECT number FROM entries WHERE patient = ? AND part = ? ORDER BY number"
            numbers = list(self._all(query, patient, part))
            random.Random(f"records/{seed}/{PARTS[part]}/{patient}").shuffle(numbers)
            with _room():
                self._database.executemany("INSERT INTO dropped VALUES (?)", numbers[most:])
        self.over_cap = self._one("SELECT count(*) FROM dropped")
        self._run("DELETE FROM entries WHERE number IN (SELECT number FROM dropped)")

    def hold_out(self, count: int, seed: int) -> None:
        """Holds out whole random units with dialogues, until `count` dialogues are held out; no unit is in
        both parts.

        A unit's random place does not depend on other units: one more unit moves only units at the edge of
        the held-out part.

        Raises UsageError where nothing is left to train on.
        """
        records = self.count("records")
        self._run("CREATE TABLE places(place INTEGER PRIMARY KEY, unit TEXT)")
        self._run(
            "INSERT INTO places(unit) SELECT unit FROM entries WHERE part = 0 GROUP BY unit ORDER BY lot(?, "
            "unit) DESC",
            f"split/{seed}",
        )
        places = array("I", range(1, 1 + self._one("SELECT count(*) FROM places")))
        while places and len(self.heldout) < count:
            unit = self._one("SELECT unit FROM places WHERE place = ?", places.pop())
            rows = self.rows_of(unit)
            self.heldout += rows["records"]
            self.heldout_pairs += rows["pairs"]
            self._run("DELETE FROM entries WHERE unit = ?", unit)
        if not places:
            raise UsageError(
                self.source,
                f"more than data.heldout = {count} records",
                str(records),
                f"--set data.heldout={records // HELDOUT_SHARE}",
            )
        del self.heldout[count:]
        self._hold_out_pairs(min(count, self.count("pairs") // PAIRS_SHARE), seed)

    def _hold_out_pairs(self, count: int, seed: int) -> None:
        """Holds out further units that have pairs and no dialogue, until `count` pairs are held out."""
        alone = self._all(
            "SELECT unit FROM entries GROUP BY unit HAVING min(part) = ? AND max(part) = ? "
            "ORDER BY lot(?, unit)",
            PARTS.index("pairs"),
            PARTS.index("pairs"),
            f"split/{seed}",
        )
        for (unit,) in list(alone):
            if len(self.heldout_pairs) >= count:
                break
            self.heldout_pairs += self.rows_of(unit)["pairs"]
            self._run("DELETE FROM entries WHERE unit = ?", unit)

    def people(self) -> tuple[int, int]:
        """How many patients the data name, and in how many records."""
        (counts,) = self._all("SELECT count(DISTINCT patient), count(patient) FROM entries")
        return int(counts[0]), int(counts[1])

    def count(self, part: Part) -> int:
        return int(self._one("SELECT count(*) FROM entries WHERE part = ?", PARTS.index(part)))

    def unit_count(self, part: Part | None = None) -> int:
        """The number of units, or of those that have something in `part`."""
        if part is None:
            return int(self._one("SELECT count(DISTINCT unit) FROM entries"))
        return int(self._one("SELECT count(DISTINCT unit) FROM entries WHERE part = ?", PARTS.index(part)))

    def units(self) -> Iterator[tuple[str, dict[Part, list[Row]]]]:
        """Every unit with its rows by part."""
        for (unit,) in self._all("SELECT unit FROM entries GROUP BY unit ORDER BY min(number)"):
            yield unit, self.rows_of(unit)

    def rows_of(self, unit: str) -> dict[Part, list[Row]]:
        """A unit's records as JSON rows, by part and in the order of the data."""
        rows: dict[Part, list[Row]] = {part: [] for part in PARTS}
        query = "SELECT part, body FROM entries WHERE unit = ? ORDER BY number"
        for part, body in self._all(query, unit):
            rows[PARTS[part]].append(json.loads(body))
        return rows

    def has_unit(self, unit: str) -> bool:
        return self._one("SELECT 1 FROM entries WHERE unit = ? LIMIT 1", unit) is not None

    def sample_units(
        self, count: int, seed: str, part: Part = "records", without: Collection[str] = ()
    ) -> list[str]:
        """`count` random units that have something in `part` and are not in `without`, in the order of the
        corpus.

        Those with the lowest lots are taken: one more unit in the data replaces at most one other.
        """
        names = self._all("SELECT DISTINCT unit FROM entries WHERE part = ?", PARTS.index(part))
        chosen = heapq.nsmallest(
            count, (unit for (unit,) in names if unit not in without), key=lambda unit: _lot(seed, unit)
        )
        return sorted(
            chosen, key=lambda unit: self._one("SELECT min(number) FROM entries WHERE unit = ?", unit)
        )

    def _one(self, query: str, *values: object) -> Any:
        """The first column of the first row; None without a row."""
        row = next(self._all(query, *values), None)
        return None if row is None else row[0]

    def _run(self, query: str, *values: object) -> None:
        with _room():
            self._database.execute(query, values)

    def _all(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with _room():
            yield from self._database.execute(query, values)


@contextmanager
def _room() -> Iterator[None]:
    """Raises OSError where the disk is full, or the work folder is gone or cannot be written: see `disk`."""
    try:
        yield
    except sqlite3.Error as error:
        number = next(
            (code for name, code in NO_ROOM.items() if error.sqlite_errorname.startswith(name)), None
        )
        if number is None:
            raise
        raise OSError(number, f"SQLite: {error}") from None


def _lot(seed: str, unit: str) -> bytes:
    """A unit's place in a random order that does not depend on other units."""
    return hashlib.sha256(f"{seed}/{unit}".encode()).digest()
