"""One spelling for whom a row is about: what names the same person in two files is one unit, and what names
nobody is no unit.
"""

import json
import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dpaudit.data import identity
from dpaudit.data.reading import read_records
from dpaudit.errors import UsageError


@pytest.mark.parametrize("value", [3, 3.0, "3", "3.0", " 3 ", "3.", "3.00", Decimal("3"), Decimal("3.0")])
def test_a_whole_number_has_one_spelling(value: Any) -> None:
    assert identity.of(value, "d") == "3"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        ("0", "0"),
        ("0.0", "0"),
        ("-0.0", "0"),
        (-7, "-7"),
        ("-7.0", "-7"),
        ("003", "003"),
        ("3.10", "3.10"),
        ("1.0.0", "1.0.0"),
        ("12e4", "12e4"),
        ("P1 ", "P1"),
        ("None Smith", "None Smith"),
        ("Zoe\u0308", "Zoë"),
        ("李雷", "李雷"),
        (10**17 + 1, "100000000000000001"),
        ("100000000000000001", "100000000000000001"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (2.0**53 - 1, "9007199254740991"),
    ],
)
def test_other_names_stay_what_they_are(value: Any, wanted: str) -> None:
    assert identity.of(value, "d") == wanted


@pytest.mark.parametrize(
    "value", [None, "", "  ", math.nan, Decimal("nan"), "nan", "NaN", "None", "null", "<NA>", "NaT"]
)
def test_what_tables_write_for_nobody_is_nobody(value: Any) -> None:
    assert identity.of(value, "d") is None


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (True, "true or false"),
        ([3], "a list"),
        ({"id": 3}, "a mapping"),
        (b"3", "bytes"),
        (3.5, "a number with a fraction"),
        (Decimal("3.5"), "fraction"),
        (math.inf, "infinity"),
        (-math.inf, "infinity"),
        (2.0**53, r"2\^53"),
        (-1e300, r"2\^53"),
        ("9007199254740993.0", r"2\^53"),
        ("1.2345678901234568e+17", "rounded"),
    ],
)
def test_what_names_nobody_in_particular_is_refused(value: Any, got: str) -> None:
    with pytest.raises(
        UsageError, match=rf"d:3: patient_id: expected a text or a whole number .*got .*{got}"
    ):
        identity.of(value, "d:3: patient_id")


def test_the_same_people_in_files_of_every_kind(tmp_path: Path) -> None:
    """What a table with a gap in its column writes as 3.0 is who is 3 elsewhere."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = [0, 3, 12]
    lines = [json.dumps({"text": "x", "patient_id": i}) for i in ids]
    floats = [json.dumps({"text": "x", "patient_id": float(i), "id": float(i)}) for i in ids]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.jsonl").write_text("\n".join(floats))
    (tmp_path / "c.csv").write_text("text,patient_id\n" + "".join(f"x,{float(i)}\n" for i in ids))
    pq.write_table(
        pa.table({"text": ["x"] * 3, "patient_id": pa.array(ids, pa.float64())}), tmp_path / "d.parquet"
    )
    pq.write_table(
        pa.table({"text": ["x"] * 3, "patient_id": pa.array(ids, pa.decimal128(9, 2))}),
        tmp_path / "e.parquet",
    )
    for path in sorted(tmp_path.iterdir()):
        assert [r.patient for _, r in read_records(str(path))] == ["0", "3", "12"], path.name
    assert [r.id for _, r in read_records(str(tmp_path / "b.jsonl"))] == ["0", "3", "12"]
