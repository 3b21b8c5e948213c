"""The corpus on disk: grouped, split, capped and sampled as plain lists would be, whatever order the records
come in.
"""

import hashlib
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dpaudit.data.corpus import Record, Turn, unit_of
from dpaudit.data.corpus_store import CorpusStore
from dpaudit.errors import UsageError

PEOPLE = ["ann", "Bob", "Zoë", "李雷", "q\x00x", "\U0001f600", "z", "~", "", "0"]


def records(count: int, seed: int = 0, letter: str = "r") -> list[Record]:
    rng = random.Random(seed)
    turns = (Turn("user", "q"), Turn("assistant", "ü"))
    return [Record(f"{letter}{i}", turns, rng.choice(PEOPLE)) for i in range(count)]


def pairs(count: int) -> list[Record]:
    return [Record(r.id, r.turns[:1], r.patient, "a", "b") for r in records(count, 1, "p")]


def store(unit: str = "patient", folder: Path | None = None, **parts: Iterable[Record]) -> CorpusStore:
    found = CorpusStore("d.jsonl", unit, folder)
    for part in ("records", "pairs", "texts"):
        found.add(part, enumerate(parts.get(part, ()), 1), f"{part}.jsonl")
    found.index()
    return found


def rows_of(found: Iterable[Record]) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(r.to_json())) for r in found]


def lot(seed: str, unit: str) -> bytes:
    return hashlib.sha256(f"{seed}/{unit}".encode()).digest()


def grouped(found: Iterable[Record], unit: str) -> dict[str, list[Record]]:
    """The slow double: everything in one mapping."""
    groups: dict[str, list[Record]] = {}
    for record in found:
        groups.setdefault(unit_of(record, unit), []).append(record)
    return groups


@pytest.mark.parametrize("unit", ["patient", "record"])
@pytest.mark.parametrize("on_disk", [True, False])
def test_units_come_in_the_order_of_their_first_record(tmp_path: Path, unit: str, on_disk: bool) -> None:
    dialogues, preferred = records(40), pairs(30)
    corpus = store(unit, tmp_path if on_disk else None, records=dialogues, pairs=preferred)
    first, second = grouped(dialogues, unit), grouped(preferred, unit)
    assert (
        [(name, rows["records"], rows["pairs"]) for name, rows in corpus.units()]
        == [
            (name, rows_of(first.get(name, [])), rows_of(second.get(name, [])))
            for name in dict.fromkeys((*first, *second))
        ]
        != []
    )
    assert (corpus.count("records"), corpus.count("pairs"), corpus.count("texts")) == (40, 30, 0)
    assert corpus.unit_count() == len(first.keys() | second.keys())
    assert corpus.unit_count("pairs") == len(second)


@pytest.mark.parametrize("count", [0, 1, 7, 39])
def test_the_split_is_that_of_a_list_sorted_by_lots(count: int) -> None:
    dialogues = records(40)
    groups = grouped(dialogues, "patient")
    order = sorted(groups, key=lambda name: lot("split/5", name), reverse=True)
    held: list[Record] = []
    while order and len(held) < count:
        held += groups.pop(order.pop())
    corpus = store(records=dialogues, pairs=pairs(30))
    if not groups:
        with pytest.raises(UsageError, match=f"expected more than data.heldout = {count} records, got 40"):
            corpus.hold_out(count, 5)
        return
    corpus.hold_out(count, 5)
    assert corpus.heldout == rows_of(held[:count])
    kept = {name: rows["records"] for name, rows in corpus.units() if rows["records"]}
    assert kept == {name: rows_of(rows) for name, rows in groups.items()}
    left = {name for name, _ in corpus.units()}
    assert not left & {r.patient for r in held}  # their pairs are gone too


@pytest.mark.parametrize("count", [0, 3, 10])
def test_the_sample_is_that_of_a_sorted_list(count: int) -> None:
    dialogues = records(60)
    names = sorted({str(r.patient) for r in dialogues})
    corpus = store(records=dialogues, pairs=[Record("x", (Turn("user", "q"),), "pair alone", "a", "b")])
    found = corpus.sample_units(count, "c/1")
    order = [name for name, _ in corpus.units()]
    wanted = sorted(names, key=lambda name: lot("c/1", name))[:count]
    assert found == sorted(wanted, key=order.index)


def test_one_unit_more_changes_the_training_set_by_one_unit() -> None:
    """Or a claim about units would be one about as many as the split exchanges."""
    turns = (Turn("user", "q"), Turn("assistant", "a"))
    everybody = [Record(f"r{i}", turns, f"p{i}") for i in range(200)]
    trained, drawn = [], []
    for place in (None, 0, 60, 199):
        corpus = store(records=[r for i, r in enumerate(everybody) if i != place])
        corpus.hold_out(40, 3)
        trained.append({name for name, _ in corpus.units()})
        drawn.append(set(corpus.sample_units(30, "c/3")))
    for other, theirs in zip(trained[1:], drawn[1:], strict=True):
        assert len(trained[0] ^ other) == 1
        assert len(drawn[0] - theirs) <= 1


def test_a_cap_is_fixed_by_the_seed_and_by_nobody_else() -> None:
    dialogues = records(60)
    corpus = store(records=dialogues, pairs=pairs(30))
    corpus.cap(2, seed=9)
    kept = {name: [row["id"] for row in rows["records"]] for name, rows in corpus.units()}
    assert {len(ids) for ids in kept.values()} == {2}
    assert corpus.over_cap == 90 - corpus.count("records") - corpus.count("pairs") > 0
    everything = {name: [r.id for r in rows] for name, rows in grouped(dialogues, "patient").items()}
    assert any(ids != everything[name][:2] for name, ids in kept.items())  # drawn, not the first two
    alone = store(records=[r for r in dialogues if r.patient == "Bob"])
    alone.cap(2, seed=9)
    assert [row["id"] for row in alone.rows_of("Bob")["records"]] == kept["Bob"]
    other = store(records=dialogues)
    other.cap(2, seed=10)
    assert {name: [row["id"] for row in rows["records"]] for name, rows in other.units()} != kept


def test_a_cap_counts_patients_under_unit_record_too_and_spares_nobody_unnamed() -> None:
    unnamed = [Record(f"x{i}", (Turn("user", "q"), Turn("assistant", "a"))) for i in range(5)]
    corpus = store("record", records=[*records(60), *unnamed])
    corpus.cap(1, seed=0)
    patients = [rows["records"][0].get("patient") for _, rows in corpus.units()]
    assert patients.count(None) == 5 and len(patients) == 5 + len(set(patients) - {None})


def test_a_repeated_id_is_named_by_file_and_line() -> None:
    twice = [*records(5), Record("other", (), "p"), Record("r2", (), "p"), Record("r1", (), "p")]
    with pytest.raises(
        UsageError,
        match=r"records\.jsonl:7: id: .* got the id of row 3 again, one of 2 rows that repeat an id; "
        r"make ids unique",
    ):
        store(records=twice)
    store(
        "record", records=records(5), pairs=[Record("r2", (Turn("user", "q"),), "p", "a", "b")]
    )  # of two parts: one unit


def test_unit_patient_needs_patients() -> None:
    with pytest.raises(
        UsageError, match="patient_id: expected a patient for every record under unit patient"
    ):
        store(records=[*records(3), Record("x", ())])


def test_a_record_without_a_patient_is_named_by_line_and_all_are_counted() -> None:
    found = [*records(3), Record("x", ()), *records(2, letter="s"), Record("y", ())]
    with pytest.raises(
        UsageError, match=r"records\.jsonl:4: patient_id: .*got no patient on 2 of 7 lines; name patients"
    ):
        store(records=found)


def test_scripts_are_counted_over_all_parts() -> None:
    chinese = [Record("z", (Turn("user", "\u54b3\u55fd"), Turn("assistant", "\u591a\u559d\u6c34")))]
    corpus = store("record", records=[*records(4), *chinese], pairs=pairs(3))
    assert corpus.scripts == {"Latin": 7, "Han": 1}


def test_people_are_counted_over_all_parts() -> None:
    unnamed = [Record("x", (Turn("user", "q"), Turn("assistant", "a")))]
    corpus = store("record", records=[*records(40), *unnamed], pairs=pairs(30))
    assert corpus.people() == (len({r.patient for r in [*records(40), *pairs(30)]}), 70)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dpaudit.data.corpus import Record; from "
        "dpaudit.data.corpus_store import CorpusStore\n"
        "from dpaudit.storage import disk\n"
        "rows = ((i, Record(f'r{i}', (), text='word ' * 500)) for i in range(20_000))\n"
        "with disk.room(Path(sys.argv[1])):\n"
        "    CorpusStore('d.jsonl', 'record', Path(sys.argv[1])).add('texts', rows, 'd.jsonl')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16)),
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = (
        f"dpaudit.errors.PartialError: {tmp_path}: expected room for what is written there, got a full disk"
    )
    assert done.stderr.splitlines()[-1].startswith(wanted)


def test_a_fault_of_ours_is_not_blamed_on_the_disk() -> None:
    corpus = store(records=records(3))
    with pytest.raises(sqlite3.OperationalError, match="by_unit already exists"):
        corpus.index()


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("003", "3", True),
        ("000", "0", True),
        ("003", "03", False),
        ("003", "4", False),
        ("a003", "a3", False),
    ],
)
def test_a_number_with_zeros_before_it_and_without_are_not_two_patients(
    first: str, second: str, clash: bool
) -> None:
    question = (Turn("user", "q"),)
    parts = {
        "records": [Record("r", (*question, Turn("assistant", "a")), first)],
        "pairs": [Record("p", question, second, "a", "b")],
    }
    assert store("record", **parts).unit_count() == 2
    if not clash:
        assert store(**parts).unit_count() == 2
        return
    with pytest.raises(UsageError, match="patient_id: expected numbers written in one way"):
        store(**parts)
