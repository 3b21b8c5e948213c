"""`plant` reads what training reads, and leaves out a column that no canary can have."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from test_file_formats import ROWS, Rows, array, refused, rows, table

from dpaudit.data.reading import read_records
from dpaudit.errors import UsageError
from dpaudit.planting import audit_key, families, hold_out, plant


def lines(made: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in made)


def planted(source: Path, out: str, **more: Any) -> list[str]:
    """The answers or texts of the planted file, among which are all of the source and the canaries that
    went in.
    """
    file, key_file = source.parent / out, source.parent / "k.json"
    plant.plant(source, file, key_file, 100, **more)
    key = audit_key.load(key_file)
    said = [record.text or record.turns[-1].text for _, record in read_records(str(file))]
    assert len(said) == key.rows
    assert sum(any(c.secret in text for text in said) for c in key.canaries) == sum(key.coins)
    return said


def in_a_folder(folder: Path) -> Path:
    (folder / "data").mkdir()
    for part in range(2):
        (folder / "data" / f"train-{part}.jsonl").write_text(lines(rows()[part::2]))
    return folder / "data"


def packed(folder: Path) -> Path:
    (folder / "a.csv.gz").write_bytes(gzip.compress(table(";", "\r\n")(rows()).encode()))
    return folder / "a.csv.gz"


def wide(folder: Path) -> Path:
    (folder / "a.jsonl").write_bytes(lines(rows()).encode("utf-16"))
    return folder / "a.jsonl"


@pytest.mark.parametrize(("made", "out"), [(in_a_folder, "o.jsonl"), (packed, "o.csv"), (wide, "o.jsonl")])
def test_what_training_reads_is_planted_into(made: Callable[[Path], Path], out: str, tmp_path: Path) -> None:
    said = planted(made(tmp_path), out)
    assert {row["completion"].replace("\r\n", "\n") for row in rows()} <= {
        text.replace("\r\n", "\n") for text in said
    }


def test_texts_are_planted_as_a_line_each(tmp_path: Path) -> None:
    texts = [row["completion"].replace("\n", " ") for row in rows()]
    (tmp_path / "a.txt").write_text("\ufeff" + "\n\n".join(texts), encoding="utf-8")
    said = planted(tmp_path / "a.txt", "o.txt")
    assert [text for text in said if text in texts] == texts
    assert (tmp_path / "o.txt").read_text(encoding="utf-8").startswith("\ufeff")


def test_a_hold_out_of_a_folder_is_read_again(tmp_path: Path) -> None:
    source = in_a_folder(tmp_path)
    hold_out.hold_out(source, tmp_path / "o.jsonl", tmp_path / "k.json", 100)
    key = audit_key.load(tmp_path / "k.json")
    assert len(hold_out.restored(key, tmp_path / "k.json", source).canaries) == 100
    hold_out.rebuild(key, source, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "o.jsonl").read_bytes()


def noted() -> Rows:
    return [row | {"note": f"Said on day {row['id']}: {row['completion']}"} for row in rows()]


def as_parquet(made: Rows) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(made), stream)
    return stream.getvalue()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "a.jsonl": lambda made: lines(made).encode(),
    "a.json": lambda made: array(indent=2)(made).encode(),
    "a.csv": lambda made: table(";", "\r\n", csv.QUOTE_ALL, "\ufeff")(made).encode(),
    "a.parquet": as_parquet,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_of_free_text_is_left_out(name: str, tmp_path: Path) -> None:
    """Refused with the option to type; dropped, the file is the one that was never given the column."""
    source = tmp_path / name
    source.write_bytes(FORMATS[name](noted()))
    assert "note: " in refused(source) and "--drop note" in refused(source)
    said = planted(source, f"o{source.suffix}", drop=["note"])
    assert len(set(said)) >= ROWS
    written = (tmp_path / f"o{source.suffix}").read_bytes()
    assert b"Said on day" not in written
    if source.suffix == ".csv":
        assert written.startswith('\ufeff"id";"prompt";"completion"\r\n'.encode())


def test_mistakes_about_copies_name_what_was_typed(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"prompt,completion\na,b,c\n"))
    with pytest.raises(UsageError, match=r"a\.csv\.gz:2: expected 2 cells") as caught:
        plant.plant(tmp_path / "a.csv.gz", tmp_path / "o.csv", tmp_path / "k.json", 100)
    assert "dpaudit-" not in str(caught.value)
    (tmp_path / "b.jsonl").write_text(lines(rows()))
    with pytest.raises(UsageError, match=r"--drop nota: expected one of the columns id, prompt, completion"):
        plant.plant(tmp_path / "b.jsonl", tmp_path / "o.jsonl", tmp_path / "k.json", 100, drop=["nota"])
    with pytest.raises(UsageError, match=r"a name without \.gz"):
        plant.plant(tmp_path / "b.jsonl", tmp_path / "o.jsonl.gz", tmp_path / "k.json", 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv.gz", "b.jsonl"]


def test_a_family_may_be_named_by_what_its_secrets_are() -> None:
    assert families.named("common words") == families.named("random common words") == "words"
    assert families.named("natural") == "natural" and families.named("Invented words") == "invented"
    with pytest.raises(UsageError, match=r"one of invented, words, natural, got portal_phrase \(a key of"):
        families.named("portal_phrase")
