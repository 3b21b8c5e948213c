"""Each format comes out as it went in: the same bytes around and in the old rows, and new rows like them."""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from test_hold_out import said
from test_plant import skeleton

from dpaudit.data.reading import read_records
from dpaudit.errors import UsageError
from dpaudit.planting import audit_key, formats, hold_out, plant

ROWS = 160
Rows = list[dict[str, Any]]


def rows() -> Rows:
    """With commas, quotation marks and line ends in their cells."""
    marks = ('said "so"', "one, two", "first\nsecond", "a; b", "plain")
    return [
        {"id": str(i + 1), "prompt": f"{said(f'q{i}')}?", "completion": f"{said(f'a{i}')} {marks[i % 5]}."}
        for i in range(ROWS)
    ]


def table(
    delimiter: str, end: str, quoting: Any = csv.QUOTE_MINIMAL, before: str = ""
) -> Callable[[Rows], str]:
    def text(made: Rows) -> str:
        stream = io.StringIO()
        writer = csv.DictWriter(
            stream, list(made[0]), delimiter=delimiter, lineterminator=end, quoting=quoting
        )
        writer.writeheader()
        writer.writerows({**row, "id": int(row["id"])} for row in made)
        return before + stream.getvalue()

    return text


def array(before: str = "", end: str = "\n", **how: Any) -> Callable[[Rows], str]:
    return lambda made: before + json.dumps(made, **how).replace("\n", end) + end


def padded(written_as: Callable[[Rows], str]) -> Callable[[Rows], str]:
    """With two empty columns behind the others, as a spreadsheet leaves them."""

    def text(made: Rows) -> str:
        named = [{key: value for key, value in row.items() if key} for row in made]
        return written_as(named).replace("\r\n", ";;\r\n")

    return text


TEXTS: dict[str, tuple[str, Callable[[Rows], str]]] = {
    "comma": ("a.csv", table(",", "\n")),
    "windows": ("a.csv", table(";", "\r\n", before="\ufeff")),
    "all quoted": ("a.csv", table(",", "\r\n", csv.QUOTE_ALL)),
    "texts quoted": ("a.csv", table(",", "\n", csv.QUOTE_NONNUMERIC)),
    "tabs": ("a.tsv", table("\t", "\n")),
    "excel": ("a.csv", table(";", "\n", before="sep=;\n")),
    "empty columns": ("a.csv", padded(table(";", "\r\n", before="\ufeff"))),
    "one line": ("a.json", array()),
    "compact": ("a.json", array(separators=(",", ":"), ensure_ascii=True)),
    "indented": ("a.json", array(indent=2, ensure_ascii=False)),
    "indented by tabs": ("a.json", array("\ufeff", "\r\n", indent="\t")),
    "a row a line": (
        "a.json",
        lambda made: "[\n" + ",\n".join(json.dumps(row) for row in made) + "\n]",
    ),
}


def parsed(path: Path, text: str) -> Rows:
    text = text.removeprefix("\ufeff").removeprefix("sep=;\n")
    if path.suffix == ".json":
        return list(json.loads(text))
    delimiter = "\t" if path.suffix == ".tsv" else ";" if ";" in text.splitlines()[0] else ","
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


@pytest.mark.parametrize("name", TEXTS)
def test_a_planted_file_has_the_layout_of_its_source(name: str, tmp_path: Path) -> None:
    """Its text is that of its rows in the source's own layout."""
    file, written_as = TEXTS[name]
    source, out = tmp_path / file, tmp_path / f"out{Path(file).suffix}"
    source.write_bytes(written_as(rows()).encode())
    told = plant.plant(source, out, tmp_path / "k.json", 100)
    key = audit_key.load(tmp_path / "k.json")
    text = out.read_bytes().decode()
    found = parsed(out, text)
    assert text == written_as(found) and told["renumbered"] == ["id"]
    assert [row["id"] for row in found] == [str(n + 1) for n in range(len(found))]
    answers = [row["completion"] for row in found]
    assert [row["completion"] for row in rows() if row["completion"] in answers] == [
        answer for answer in answers if not any(canary.secret in answer for canary in key.canaries)
    ]
    assert len(found) == key.rows == ROWS + sum(key.coins) == len(list(read_records(str(out))))


@pytest.mark.parametrize("name", TEXTS)
def test_rows_that_stay_keep_their_bytes(name: str, tmp_path: Path) -> None:
    file, written_as = TEXTS[name]
    made = [row | {"id": f"{random.Random(row['id']).randrange(10**6)}"} for row in rows()]
    source, out = tmp_path / file, tmp_path / f"out{Path(file).suffix}"
    source.write_bytes(written_as(made).encode())
    hold_out.hold_out(source, out, tmp_path / "k.json", 100)
    key = audit_key.load(tmp_path / "k.json")
    gone = {unit.rows[0] - 1 for unit, stays in zip(key.held_out, key.coins, strict=True) if not stays}
    assert out.read_bytes().decode() == written_as([r for n, r in enumerate(made) if n not in gone])
    assert len(hold_out.restored(key, tmp_path / "k.json", source).canaries) == 100


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_table_in_utf_16_stays_one(encoding: str, tmp_path: Path) -> None:
    """With headings that are read in any case, and a row of empty cells."""
    made = [{"Prompt": row["prompt"], "Completion": row["completion"]} for row in rows()]
    text = "\ufeff" + table(";", "\r\n")([{"id": "1", **row} for row in made]) + ";;\r\n"
    source, out = tmp_path / "a.csv", tmp_path / "o.csv"
    source.write_bytes(text.encode(encoding))
    plant.plant(source, out, tmp_path / "k.json", 100)
    key = audit_key.load(tmp_path / "k.json")
    planted = out.read_bytes().decode(encoding)
    assert planted.startswith("\ufeffid;Prompt;Completion\r\n")
    answers = [record.turns[-1].text for _, record in read_records(str(out))]
    assert len(answers) == ROWS + sum(key.coins) == key.rows
    assert {row["Completion"] for row in made} <= set(answers)
    assert sum(any(c.secret in a for a in answers) for c in key.canaries) == sum(key.coins)


def test_natural_rows_are_planted_into_a_table(tmp_path: Path) -> None:
    source, out = tmp_path / "a.csv", tmp_path / "o.csv"
    source.write_text(table(",", "\n")(rows()))
    plant.plant(source, out, tmp_path / "k.json", 100, "record", "natural")
    key = audit_key.load(tmp_path / "k.json")
    found = parsed(out, out.read_text())
    assert sum(c.secret in row["completion"] for c in key.canaries for row in found) == sum(key.coins)


def dialogues() -> Rows:
    return [
        {
            "row": i,
            "weight": 0.5 + i / 7,
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ],
        }
        for i, row in enumerate(rows())
    ]


SCHEMA = pyarrow.schema(
    [
        ("row", pyarrow.int32()),
        ("weight", pyarrow.float64()),
        (
            "messages",
            pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])),
        ),
    ],
    metadata={"made": "by hand"},
)


@pytest.mark.parametrize("codec", ["zstd", "snappy", "none"])
@pytest.mark.parametrize("way", ["planted", "held out"])
def test_parquet_keeps_schema_and_compression(codec: str, way: str, tmp_path: Path) -> None:
    source, out, key_file = tmp_path / "a.parquet", tmp_path / "o.parquet", tmp_path / "k.json"
    before = pyarrow.Table.from_pylist(dialogues(), schema=SCHEMA)
    pyarrow.parquet.write_table(before, source, compression=codec, row_group_size=50)
    if way == "planted":
        plant.plant(source, out, key_file, 100)
    else:
        hold_out.hold_out(source, out, key_file, 100)
    key = audit_key.load(key_file)
    with pyarrow.parquet.ParquetFile(out) as file:
        after, metadata = file.read(), file.metadata
    schema = pyarrow.parquet.read_schema(source)
    assert after.schema.equals(schema, check_metadata=True) and schema.metadata[b"made"] == b"by hand"
    assert metadata.row_group(0).num_rows == 50
    expected = {"zstd": "ZSTD", "snappy": "SNAPPY", "none": "UNCOMPRESSED"}[codec]
    assert metadata.row_group(0).column(0).compression == expected
    found = after.to_pylist()
    assert [row["row"] for row in found] == list(range(len(found))) and len(found) == key.rows
    assert {str(skeleton(row)) for row in found} == {str(skeleton(row)) for row in dialogues()}
    old = [row["messages"] for row in dialogues()]
    kept = [row["messages"] for row in found if row["messages"] in old]
    assert kept == [turns for turns in old if turns in kept]
    assert len(kept) == (ROWS if way == "planted" else key.rows)


def refused(source: Path, out: str = "", unit: str = "record") -> str:
    with pytest.raises(UsageError) as caught:
        plant.plant(source, source.parent / (out or f"o{source.suffix}"), source.parent / "k.json", 100, unit)
    assert [path.name for path in source.parent.iterdir()] == [source.name]
    assert "\n" not in str(caught.value) and "said" not in str(caught.value)
    return str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = table(",", "\n")(rows())
    cases = {
        "a.jsonl": b"",
        "b.docx": text.encode(),
        "f.jsonl": b'[{"text": "t"}]',
    }
    for name, content in cases.items():
        (tmp_path / name[0]).mkdir()
        (tmp_path / name[0] / name).write_bytes(content)
        assert "JSONL, JSON, CSV or Parquet" in refused(tmp_path / name[0] / name), name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b'prompt,completion\n"a,b\nc,d\n'),
        ("a.csv", b"prompt,completion\na,b,c\n"),
        ("a.csv", b"prompt,prompt\na,b\n"),
        ("a.csv", b'"prompt,completion\n'),
        ("a.csv", b"prompt,completion\n"),
        ("a.csv", b"prompt,completion\na\xff,b\n"),
        ("a.csv", b"prompt,completion\na\rb,c\r\n"),
        ("a.json", b"[]"),
        ("a.json", b'[{"text": "t"'),
        ("a.json", b'[{"text": "t"},]'),
        ("a.json", b'[{"text": "t"} {"text": "u"}]'),
        ("a.json", b'[{"text": "t"}] [1]'),
        ("a.json", b"[1]"),
        ("a.json", b"["),
        ("a.json", b"[" * 100_000),
        ("a.parquet", b"PAR1"),
        ("a.parquet", b"PAR1 and more PAR1"),
    ],
)
def test_a_broken_file_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert "expected" in refused(tmp_path / name)


def test_the_file_for_training_is_named_by_its_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(table(",", "\n")(rows()))
    assert "a name that ends in .csv" in refused(tmp_path / "a.csv", "o.jsonl")
    assert "a name without an ending" in refused(tmp_path / "a.csv", "o")


def test_columns_of_bytes_and_of_narrow_numbers_are_refused(tmp_path: Path) -> None:
    plain = {"text": [row["prompt"] for row in rows()]}
    for name, column in {
        "bytes": pyarrow.array([b"x"] * ROWS),
        "times": pyarrow.array([0] * ROWS, pyarrow.timestamp("s")),
        "id": pyarrow.array(range(-32, ROWS - 32), pyarrow.int8()),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        pyarrow.parquet.write_table(pyarrow.table({**plain, name: column}), folder / "a.parquet")
        assert "column" in refused(folder / "a.parquet"), name


def test_cells_are_quoted_as_in_most_rows(tmp_path: Path) -> None:
    for quoting, way in (
        (csv.QUOTE_ALL, "all"),
        (csv.QUOTE_MINIMAL, "needed"),
        (csv.QUOTE_NONNUMERIC, "texts"),
    ):
        (tmp_path / "a.csv").write_text(table(",", "\n", quoting)(rows()))
        assert formats.Csv.of(tmp_path / "a.csv").quoting == way
