"""Reading data: every format and shape is found from the data, and a fault is one line that never quotes the
text.
"""

import csv
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpaudit.data.columns import plain_names
from dpaudit.data.corpus import Record, Turn
from dpaudit.data.lines import CHUNK
from dpaudit.data.reading import is_hub_id, parse_rows, read_records
from dpaudit.data.row_reader import Reader
from dpaudit.errors import UsageError

ROOT = Path(__file__).parents[2]
SECRET = "my rash began in Zürich"


def dialogue(**changed: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": SECRET}, {"from": "gpt", "value": "Rest."}]
    return {"conversations": turns} | changed


PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
MESSAGES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def write(path: Path, *rows: Any) -> Path:
    text = "".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows
    )
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path, rows: str | None = None, limit: int | None = None) -> list[Record]:
    return [record for _, record in read_records(str(path), rows, limit)]


# ---- shapes


def test_both_spellings_of_sharegpt(tmp_path: Path) -> None:
    other = {
        "messages": [{"role": "system", "content": "s"}, *MESSAGES],
        "name_key": "qa_12",
        "patient_id": 7,
    }
    first, second = read(write(tmp_path / "d.jsonl", dialogue(), "", other))
    assert first == Record("r1", (Turn("user", SECRET), Turn("assistant", "Rest.")))
    assert (second.id, second.patient, second.turns[0].role) == ("qa_12", "7", "system")


@pytest.mark.parametrize(
    ("role", "kept"),
    [
        *((name, "user") for name in ("human", "user", "patient", "Human", "USER")),
        *((name, "assistant") for name in ("gpt", "assistant", "bot", "doctor", "GPT")),
        ("system", "system"),
    ],
)
def test_every_spelling_of_a_role(tmp_path: Path, role: str, kept: str) -> None:
    turns = [{"from": role, "value": "x"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    (record,) = read(write(tmp_path / "d.jsonl", {"conversations": turns}))
    assert record.turns[0] == Turn(kept, "x")  # type: ignore[arg-type]


QUESTION = (Turn("user", "q"), Turn("assistant", "a"))


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"instruction": "q", "output": "a"}, Record("r1", QUESTION)),
        ({"instruction": "q", "input": "", "output": "a"}, Record("r1", QUESTION)),
        (
            {"instruction": "do", "input": "this", "output": "a", "system": "s", "history": [["h", "i"]]},
            Record(
                "r1",
                (
                    Turn("system", "s"),
                    Turn("user", "h"),
                    Turn("assistant", "i"),
                    Turn("user", "do\n\nthis"),
                    Turn("assistant", "a"),
                ),
            ),
        ),
        ({"prompt": "q", "completion": "a"}, Record("r1", QUESTION)),
        ({"prompt": MESSAGES[:1], "completion": MESSAGES[1:]}, Record("r1", QUESTION)),
        ({"prompt": "q", "response": "a"}, Record("r1", QUESTION)),
        ({"question": "q", "answer": "a", "patient": "p"}, Record("r1", QUESTION, "p")),
        (
            {"question": "q", "choices": ["x", "y"], "answer": 1},
            Record("r1", (Turn("user", "q\nA. x\nB. y"), Turn("assistant", "B. y"))),
        ),
        (PAIR, Record("p1", (Turn("user", "q"),), None, "a", "b")),
        (
            {"prompt": MESSAGES[:1], "chosen": MESSAGES[1:], "rejected": "b"},
            Record("p1", (Turn("user", "q"),), None, "a", "b"),
        ),
        (
            {"chosen": MESSAGES, "rejected": [MESSAGES[0], {"role": "assistant", "content": "b"}]},
            Record("p1", (Turn("user", "q"),), None, "a", "b"),
        ),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "a"},
                "rejected": {"from": "gpt", "value": "b"},
            },
            Record("p1", (Turn("user", "q"),), None, "a", "b"),
        ),
        ({"text": "plain words", "patient_id": 3}, Record("t1", (), "3", text="plain words")),
        ({"text": "rendered", "messages": MESSAGES, "label": None}, Record("r1", QUESTION)),
    ],
)
def test_a_shape_is_found_by_itself(tmp_path: Path, row: dict[str, Any], wanted: Record) -> None:
    assert read(write(tmp_path / "d.jsonl", row)) == [wanted]


def test_a_patient_that_a_table_leaves_empty_is_nobody(tmp_path: Path) -> None:
    rows = [dialogue(patient_id=nobody) for nobody in ("", None, float("nan"))]
    assert {record.patient for record in read(write(tmp_path / "d.jsonl", *rows))} == {None}


SYSTEM = Turn("system", "s")
TOLD = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"conversations": MESSAGES, "system": "s"}, Record("r1", (SYSTEM, *QUESTION))),
        (
            {"messages": [{"role": "system", "content": "s"}, *MESSAGES], "system": "s"},
            Record("r1", (SYSTEM, *QUESTION)),
        ),
        ({"messages": MESSAGES, "conversations": MESSAGES}, Record("r1", QUESTION)),
        ({"messages": json.dumps(MESSAGES)}, Record("r1", QUESTION)),
        ({"messages": [{"role": "developer", "content": "s"}, *MESSAGES]}, Record("r1", (SYSTEM, *QUESTION))),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "q"}]},
                    {"role": "assistant", "content": ["a"]},
                ]
            },
            Record("r1", QUESTION),
        ),
        ({"messages": [{"from": None, "value": None, **turn} for turn in MESSAGES]}, Record("r1", QUESTION)),
        (
            {
                "messages": [
                    MESSAGES[0] | {"weight": 0},
                    MESSAGES[1] | {"weight": 1.0, "train": True, "mask": False, "name": "x"},
                ]
            },
            Record("r1", QUESTION),
        ),
        ({"prompt": "q", "completion": "a", "system": "s"}, Record("r1", (SYSTEM, *QUESTION))),
        ({"system_prompt": "s", "question": "q", "response": "a"}, Record("r1", (SYSTEM, *QUESTION))),
        (
            {"question": "q", "answer": "a", "system": "s", "history": [["h", "i"]]},
            Record("r1", (SYSTEM, Turn("user", "h"), Turn("assistant", "i"), *QUESTION)),
        ),
        (
            {"instruction": "q", "output": "a", "history": json.dumps(MESSAGES)},
            Record("r1", (*QUESTION, *QUESTION)),
        ),
        (
            {"instruction": "q", "context": "c", "response": "a"},
            Record("r1", (Turn("user", "q\n\nc"), QUESTION[1])),
        ),
        (
            {"instruction": "do", "input": "q", "chosen": "a", "rejected": "b"},
            Record("p1", (Turn("user", "do\n\nq"),), None, "a", "b"),
        ),
        (
            {"system": "s", "question": "q", "chosen": "a", "rejected": "b"},
            Record("p1", (SYSTEM, QUESTION[0]), None, "a", "b"),
        ),
        (
            {"messages": MESSAGES[:1], "chosen": MESSAGES[1], "rejected": TOLD[1], "system": "s"},
            Record("p1", (SYSTEM, QUESTION[0]), None, "a", "b"),
        ),
        (
            {"chosen": MESSAGES, "rejected": TOLD, "system": "s"},
            Record("p1", (SYSTEM, QUESTION[0]), None, "a", "b"),
        ),
        (
            {"chosen": json.dumps(MESSAGES), "rejected": json.dumps(TOLD)},
            Record("p1", QUESTION[:1], None, "a", "b"),
        ),
        (
            {
                "prompt": "q",
                "chosen": [{"role": "system", "content": "s"}, *MESSAGES],
                "rejected": [{"role": "system", "content": "s"}, *TOLD],
            },
            Record("p1", (SYSTEM, QUESTION[0]), None, "a", "b"),
        ),
        (
            {"prompt": "q", "messages": MESSAGES, "chosen": MESSAGES, "rejected": TOLD},
            Record("p1", QUESTION[:1], None, "a", "b"),
        ),
        (
            {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
            Record("p1", QUESTION[:1], None, "a", "b"),
        ),
        ({"text": "x", "id": 0}, Record("0", (), text="x")),
        ({"text": "x", "id": "", "name_key": 0.0}, Record("0", (), text="x")),
    ],
)
def test_nothing_that_a_public_shape_says_is_lost(
    tmp_path: Path, row: dict[str, Any], wanted: Record
) -> None:
    assert read(write(tmp_path / "d.jsonl", row)) == [wanted]


SAID = MESSAGES[1]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        *(
            ({"messages": [MESSAGES[0], SAID | extra]}, wanted)
            for extra, wanted in [
                (
                    {"weight": 0},
                    "messages[1]: weight: expected a turn to learn from, got a turn marked as not to be "
                    "learned from",
                ),
                ({"weight": "0"}, "weight: expected a turn to learn from"),
                ({"weight": 0.5}, "got a weight that is neither 0 nor 1"),
                ({"loss": False}, "loss: expected a turn to learn from"),
                ({"train": False}, "train: expected a turn to learn from"),
                ({"mask": True}, "mask: expected a turn to learn from"),
                ({"skip": 1}, "skip: expected a turn to learn from"),
                ({"train_detail": [{"train": False}]}, "train_detail: expected a turn to learn from"),
                ({"tool_calls": [{"name": "f"}]}, "tool_calls: expected only role and text"),
                ({"images": ["x.png"]}, "images: expected only role and text"),
                ({"reasoning_content": SECRET}, "reasoning_content: expected only role and text"),
                (
                    {"value": SECRET},
                    "messages[1]: expected value or content, got both keys with different content",
                ),
                (
                    {"content": [{"type": "image_url", "image_url": SECRET}]},
                    "messages[1]: expected parts of type text alone",
                ),
                ({"role": "tool"}, "got the role tool; write tool calls and their results as text"),
                ({"role": "observation"}, "got the role observation; write tool calls"),
            ]
        ),
        (
            {"messages": [MESSAGES[0] | {"train": True}, SAID]},
            "train: expected loss on the assistant's turns only",
        ),
        (
            {"prompt": "q", "completion": "a", "label": False},
            "label: expected answers to learn from, got answers marked good or bad",
        ),
        ({"prompt": "q", "completion": "a", "label": 1}, "jq -c 'select(.label) | del(.label)'"),
        ({"messages": MESSAGES, "kto_tag": True}, "kto_tag: expected answers to learn from"),
        ({"messages": MESSAGES, "weight": 0}, "d.jsonl:1: weight: expected a row to learn from"),
        ({"messages": MESSAGES, "loss": False}, "loss: expected a row to learn from"),
        (
            {"messages": MESSAGES, "loss_mask": [0, 1]},
            "loss_mask: expected turns that are all learned from, got a mask",
        ),
        ({"messages": MESSAGES, "skip": True}, "skip: expected a row to learn from"),
        (
            {"messages": MESSAGES, "split": "test"},
            "split: expected rows to learn from, got a row of the split",
        ),
        ({"messages": MESSAGES, "tools": [{"name": "f"}]}, "tools: expected text alone"),
        (
            {"messages": MESSAGES, "images": ["x.png"]},
            "images: expected text alone, got a column that the model would see",
        ),
        (
            {"messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": False}},
            "chat_template_kwargs: expected text alone",
        ),
        (
            {"messages": MESSAGES, "history": [["h", "i"]]},
            "history: expected no history beside conversations, messages",
        ),
        ({"text": "x", "system": "s"}, "system: expected no system beside text"),
        (
            {"messages": [{"role": "system", "content": "t"}, *MESSAGES], "system": "s"},
            "system: expected one system text, got several system texts",
        ),
        (
            {"conversations": MESSAGES, "messages": TOLD},
            "expected conversations or messages, got both columns, which differ",
        ),
        (
            {"prompt": "q", "completion": "a", "response": "b"},
            "expected completion or response, got both columns, which differ",
        ),
        (
            {"instruction": "do", "question": "q", "answer": "a"},
            "expected instruction or question, got both columns",
        ),
        ({"messages": str(MESSAGES)}, "messages: expected messages as a list, or as JSON text"),
        ({"prompt": "q", "completion": str(MESSAGES)}, "completion: expected messages as a list"),
        (
            {"prompt": "q", "chosen": MESSAGES, "rejected": [{"role": "user", "content": "other"}, SAID]},
            "rejected: expected one answer",
        ),
        ('{"text": "a", "text": "b"}', "d.jsonl:1: expected each key once in an object, got text twice"),
        ('{"messages": [{"role": "user", "role": "assistant", "content": "x"}]}', "got role twice"),
        ('{"text": "a"} {"text": "b"}', "d.jsonl:1: expected one JSON object on the line"),
        ({"data": [{"text": SECRET}]}, "jq -c '.data[]' FILE"),
        ({"text": "x", "patient_id": True}, "d.jsonl:1: patient_id: expected a text or a whole number"),
        ('{"text": "x", "id": Infinity}', "d.jsonl:1: id: expected a text or a whole number"),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path: Path, row: Any, wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(write(tmp_path / "d.jsonl", row))
    line = str(caught.value)
    assert wanted in line and "\n" not in line and SECRET not in line


def test_mistakes_of_one_kind_are_told_together(tmp_path: Path) -> None:
    bad = {"messages": [MESSAGES[0], SAID | {"weight": 0}]}
    rows = [
        {"messages": MESSAGES},
        bad,
        {"messages": MESSAGES},
        bad,
        {"messages": [{"role": "x", "content": "y"}]},
        bad,
    ]
    path = write(tmp_path / "d.jsonl", *rows)
    with pytest.raises(
        UsageError,
        match=r"d\.jsonl:2: messages\[1\]: weight: .*, got a turn marked .* learned from, in 3 rows;",
    ):
        read(path)
    with pytest.raises(UsageError, match=r"d\.jsonl:2: .*got a turn marked as not to be learned from; end"):
        read(path, rows="0:3")


def test_columns_that_nothing_is_taken_from_are_known(tmp_path: Path) -> None:
    rows = [
        {"text": "x", "id": 1, "source": "s"},
        {"text": "x", SECRET: 1, "patient_id": 2, "patient": "old"},
        {"text": "x", "label": 1, "note": ""},
    ]
    reader = Reader()
    assert len(list(read_records(str(write(tmp_path / "d.jsonl", *rows)), reader=reader))) == 3
    assert reader.unread == {"source", SECRET, "patient", "label"}
    assert plain_names(sorted(reader.unread)) == "label, patient, source, 1 that are no plain names"


# ---- formats

ROWS = [
    {
        "instruction": f'q{i},\n\n"quoted"',
        "input": "" if i % 2 else "日本",
        "output": f"a{i} ü",
        "patient_id": f"0{i % 7}",
    }
    for i in range(700)
]


def as_jsonl(path: Path) -> Path:
    return write(path / "d.jsonl", *ROWS)


def as_lines_called_json(path: Path) -> Path:
    return write(path / "d.json", *ROWS)


def as_array(path: Path) -> Path:
    (path / "a.json").write_text("\ufeff \n" + json.dumps(ROWS, indent=2), encoding="utf-8")
    return path / "a.json"


def as_csv(path: Path) -> Path:
    with (path / "d.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    return path / "d.csv"


def as_parquet(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), path / "d.parquet")
    return path / "d.parquet"


def as_folder(path: Path) -> Path:
    (path / "hub").mkdir()
    as_parquet(path / "hub")
    return path / "hub"


def as_saved(path: Path) -> Path:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(path / "saved")
    return path / "saved"


def as_semicolons(path: Path) -> Path:
    as_csv(path)
    with (path / "d.csv").open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.reader(stream))
    with (path / "e.csv").open("w", newline="", encoding="utf-16") as stream:
        csv.writer(stream, delimiter=";").writerows(rows)
    return path / "e.csv"


def as_tabs(path: Path) -> Path:
    with (path / "d.tsv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(ROWS[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(ROWS)
    return path / "d.tsv"


def as_wide(path: Path) -> Path:
    text = as_jsonl(path).read_text(encoding="utf-8")
    (path / "w.jsonl").write_text(text, encoding="utf-16")
    return path / "w.jsonl"


def as_wide_array(path: Path) -> Path:
    (path / "w.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-16")
    return path / "w.json"


def gzipped(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        plain = make(path)
        packed = plain.with_name(f"{plain.name}.gz")
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        return packed

    return made


def as_saved_parts(path: Path) -> Path:
    import datasets

    found = datasets.DatasetDict(
        train=datasets.Dataset.from_list(ROWS), test=datasets.Dataset.from_list(ROWS[:3])
    )
    found.save_to_disk(path / "parts", num_shards={"train": 2, "test": 1})
    return path / "parts"


def as_folder_of_two(path: Path) -> Path:
    (path / "two" / "data").mkdir(parents=True)
    write(path / "two" / "data" / "train-00001-of-00002.jsonl", *ROWS[300:])
    write(path / "two" / "data" / "train-00000-of-00002.jsonl", *ROWS[:300])
    write(path / "two" / "data" / "test.jsonl", {"text": "of another shape"})
    write(path / "two" / "README.md", "no settings")
    return path / "two"


def as_declared(path: Path) -> Path:
    (path / "told" / "part").mkdir(parents=True)
    write(path / "told" / "part" / "a.jsonl", *ROWS)
    write(path / "told" / "b.jsonl", {"text": "x"})
    head = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: part/*\n---\n"
    (path / "told" / "README.md").write_text(head)
    return path / "told"


FORMATS = [
    as_jsonl,
    as_lines_called_json,
    as_array,
    as_csv,
    as_parquet,
    as_folder,
    as_saved,
    as_semicolons,
    as_tabs,
    as_wide,
    as_wide_array,
    gzipped(as_jsonl),
    gzipped(as_array),
    gzipped(as_csv),
    as_saved_parts,
    as_folder_of_two,
    as_declared,
]


@pytest.mark.parametrize("make", FORMATS)
def test_every_format_says_the_same(make: Callable[[Path], Path], tmp_path: Path) -> None:
    found = read(make(tmp_path), rows="100:690", limit=500)
    assert len(found) == 500
    for row, record in zip(ROWS[100:600], found, strict=True):
        question = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
        assert record.turns == (Turn("user", question), Turn("assistant", row["output"]))
        assert record.patient == row["patient_id"]  # as written: no number is made of it
    assert len({record.id for record in found}) == 500


def test_an_array_whose_items_are_longer_than_a_piece(tmp_path: Path) -> None:
    long = "word " * CHUNK
    (tmp_path / "a.json").write_text(json.dumps([{"text": long}, {"text": "short"}]))
    assert [record.text for record in read(tmp_path / "a.json")] == [long, "short"]


def test_nested_lists_of_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dialogue(id="x"), dialogue(id="y")]), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet") == read(
        write(tmp_path / "d.jsonl", dialogue(id="x"), dialogue(id="y"))
    )


def test_a_folder_of_several_splits_gives_train(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path / f"{name}.jsonl", {"text": name})
    assert [record.text for record in read(tmp_path)] == ["train"]
    (tmp_path / "train.jsonl").rename(tmp_path / "validation.jsonl")
    with pytest.raises(
        UsageError,
        match=r"expected a data set: a folder with data files of one split, .* got the splits test, "
        r"validation",
    ):
        read(tmp_path)


def test_what_is_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("openlifescienceai/medmcqa") and is_hub_id("a/b-v1.5")
    assert not any(map(is_hub_id, ("builtin:clinic", "name", "data/d.jsonl", "a/b/c", "./x/y.csv")))
    Path("a/b").mkdir(parents=True)
    assert not is_hub_id("a/b")


@pytest.mark.network
def test_a_hub_data_set() -> None:
    rows = read_records("HuggingFaceH4/no_robots", limit=3)
    assert all(record.turns for _, record in rows)


# ---- rows


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, (0, None)),
        ("0:30000", (0, 30000)),
        ("5:", (5, None)),
        (":7", (0, 7)),
        (" 1:2 ", (1, 2)),
        (":", (0, None)),
    ],
)
def test_rows_are_counted_from_0_with_the_end_left_out(text: str | None, wanted: Any) -> None:
    assert parse_rows(text) == wanted


@pytest.mark.parametrize("text", ["5", "a:b", "3:3", "9:2", "-1:4", "1:2:3", "", "٣:٤", "1.5:2"])
def test_malformed_rows_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"data\.rows: expected A:B with A below B, counted from 0"):
        parse_rows(text)


def test_rows_come_before_everything_else(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", "{broken", "", *({"text": str(i)} for i in range(1, 9)), "{broken")
    assert [r.text for r in read(path, "1:3")] == ["1", "2"]
    assert [r.text for r in read(path, "2:9", limit=1)] == ["2"]
    assert [r.id for r in read(path, "1:2")] == ["t3"]  # named by the line in the whole file


@pytest.mark.parametrize("rows", ["0:11", "10:", "10:12", "500:501"])
def test_rows_beyond_the_end_are_refused(tmp_path: Path, rows: str) -> None:
    path = write(tmp_path / "d.jsonl", *({"text": str(i)} for i in range(10)))
    with pytest.raises(
        UsageError, match=r"data\.rows: expected rows that .*, got an end beyond its 10 records"
    ):
        read(path, rows)
    assert len(read(path, "0:10")) == 10


def test_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", dialogue(), dialogue(), "{broken")
    assert len(read(path, limit=2)) == 2


# ---- faults


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (["{oops"], "d.jsonl:1: expected one JSON object on the line, got a syntax error at column 2"),
        ([dialogue(), [1]], "d.jsonl:2: expected one JSON object on the line, got a list"),
        (
            [{"diagnosis": SECRET, SECRET: 1}],
            "d.jsonl:1: expected one of: prompt, chosen and rejected; conversations",
        ),
        ([{"diagnosis": SECRET, SECRET: 1}], "got the columns diagnosis, 1 that are no plain names"),
        ([{}], "got the columns of none"),
        ([{"conversations": []}], "conversations: expected a list of turns"),
        ([{"messages": ""}], "messages: expected a list of turns, got no value"),
        (
            [{"conversations": [{"from": SECRET, "value": "x"}]}],
            "assistant, gpt, bot, doctor, got another role; name it user or assistant, whichever it stands "
            "for, or leave such rows out; "
            "of JSONL all roles are listed by: jq '.conversations[].from' FILE | sort | uniq -c",
        ),
        ([{"conversations": [{"from": "human", "value": " "}]}], "expected a non-empty text"),
        (
            [{"conversations": [{"from": "human", "value": SECRET}]}],
            "ends with the assistant, got a last turn of the user; remove what follows",
        ),
        ([{"chosen": "a", "rejected": "b"}], "d.jsonl:1: prompt: expected a non-empty text, got no value"),
        (
            [{"chosen": "Human: q\n\nAssistant: a", "rejected": "Human: other\n\nAssistant: a"}],
            "prompt: expected a prompt, or the same turns before both answers",
        ),
        (
            [{"prompt": MESSAGES, "chosen": "a", "rejected": "b"}],
            "prompt: expected a dialogue that ends with the user",
        ),
        (
            [PAIR | {"chosen": MESSAGES + MESSAGES}],
            "chosen: expected one answer, alone or behind the prompt, got 4 turns",
        ),
        (
            [{"chosen": MESSAGES, "rejected": MESSAGES[1:]}],
            "prompt: expected a prompt, or the same turns before both",
        ),
        (
            [PAIR | {"rejected": 3}],
            "rejected: expected a non-empty text, got a whole number; write it as text",
        ),
        ([{"instruction": SECRET}], "d.jsonl:1: output: expected a non-empty text, got no value"),
        (
            [{"instruction": "q", "output": "a", "history": [SECRET]}],
            "history: expected a list of [question, answer]",
        ),
        (
            [{"question": "q", "choices": ["x", "y"], "answer": 2}],
            "answer: expected the place of a choice, from 0 to 1, got 2",
        ),
        ([{"question": "q", "choices": SECRET, "answer": 0}], "choices: expected a list of 2 to 10 texts"),
        (
            [{"question": "q", "answer": 4}],
            "answer: expected a non-empty text, got a whole number; write it as text",
        ),
        ([{"text": " "}], "d.jsonl:1: text: expected a non-empty text"),
        (
            [dialogue(), PAIR],
            "d.jsonl:2: expected the shape of the first record, conversations or messages, got a record with "
            "prompt, chosen",
        ),
        ([dialogue(), "", {"text": SECRET}], "d.jsonl:3: expected the shape of the first record"),
        ([{"text": SECRET}, {"text": ""}], "d.jsonl:2: text: expected a non-empty text, got no value"),
        ([{"messages": [{"from": ["x"], "value": SECRET}]}], "gpt, bot, doctor, got a list; "),
        ([dialogue(), '{"n": ' + "7" * 5000 + "}"], "d.jsonl:2: expected one JSON object"),
        (["[" * 100_000], "d.jsonl:1: expected one JSON object on the line, got too many nested brackets"),
        ([json.dumps(PAIR | {"chosen": "\ud800"})], "d.jsonl:1: expected text that is valid Unicode"),
        ([json.dumps({"text": "\ud800"})], "d.jsonl:1: expected text that is valid Unicode"),
        (
            [dialogue(), json.dumps(dialogue(patient="\ud800"))],
            "d.jsonl:2: expected text that is valid Unicode",
        ),
        (
            [],
            "d.jsonl: expected at least one record, got an empty file; check what should have written rows "
            "into it",
        ),
        (
            [dialogue(), f'{{"text": "{SECRET}'],
            "d.jsonl:2: expected one JSON object on the line, got a syntax error at column 34; the line "
            "breaks off: copy",
        ),
    ],
)
def test_a_fault_is_one_line_without_the_text(tmp_path: Path, rows: list[Any], wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(write(tmp_path / "d.jsonl", *rows))
    line = str(caught.value)
    assert wanted in line and "\n" not in line and SECRET not in line


HEADING = "instruction,output"


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("d.csv", "", "d.csv: expected at least one record, got an empty file"),
        ("d.csv", HEADING, "expected at least one record"),
        ("d.csv", f"age,note,{SECRET}\n1,{SECRET},3\n", "d.csv:2: expected one of: prompt, chosen"),
        (
            "d.csv",
            f"age,note,{SECRET}\n1,{SECRET},3\n",
            "got the columns age, note, 1 that are no plain names",
        ),
        (
            "d.csv",
            f"{HEADING}\n{SECRET},a\n{SECRET}\n",
            "d.csv:3: expected 2 cells, as the heading has, got 1; put a cell that holds a comma",
        ),
        (
            "d.csv",
            f'{HEADING}\nq,"{SECRET}\n',
            "d.csv:2: expected a row of CSV, got a quotation mark that was opened in line 2 or below and not "
            "closed; close it",
        ),
        (
            "d.csv",
            f'{HEADING}\nq,a\nq,"{SECRET}\nq,"a"\n',
            "d.csv:4: expected a row of CSV, got a quotation mark that was opened in line 3 or below and not "
            "closed, or one inside",
        ),
        (
            "d.csv",
            f"{SECRET},{SECRET}!\nq,a\n",
            "got 2 columns without a plain name; the first line must be a heading that names the columns: "
            "add one",
        ),
        ("d.csv", f"text,text\n{SECRET},a\n", "d.csv: expected columns of different names"),
        ("d.csv", f"{HEADING}\nq,a\n{SECRET},\n", "d.csv:3: output: expected a non-empty text, got no value"),
        ("a.json", "[]", "a.json: expected at least one record"),
        ("a.json", "[", "a.json:1: expected a JSON object, got a syntax error"),
        ("a.json", '[{"text": "x"}, 3]', "a.json:2: expected a JSON object, got a whole number"),
        (
            "a.json",
            f'[{{"text": "x"}}, {{"text": "{SECRET}"',
            "a.json:2: expected a JSON object, got a syntax error",
        ),
        ("a.json", '[{"text": "x"} {"text": "y"}]', "a.json:1: expected a comma or the array's end"),
        (
            "a.json",
            f'[{{"text": "x"}}, {{"instruction": "{SECRET}", "output": "a"}}]',
            "a.json:2: expected the shape",
        ),
        (
            "a.json",
            "[" + '{"text":' * 30_000,
            "a.json:1: expected a JSON object, got an object that Python cannot read",
        ),
        ("d.parquet", SECRET, "d.parquet: expected a Parquet file, got a damaged file, or another format"),
        ("d.parquet", f"PAR1{SECRET * 50}PAR1", "expected a Parquet file, got a damaged file"),
    ],
)
def test_a_fault_of_another_format(tmp_path: Path, name: str, content: str, wanted: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read(tmp_path / name)
    line = str(caught.value)
    assert wanted in line and "\n" not in line and SECRET not in line


def test_parquet_without_usable_columns_and_a_damaged_one(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"age": [3], "note": [SECRET]}), path)
    with pytest.raises(UsageError, match=r"d\.parquet:1: expected one of: .* got the columns age, note"):
        read(path)
    whole = as_parquet(tmp_path).read_bytes()
    path.write_bytes(whole[:8] + b"\0" * 2000 + whole[2008:])
    with pytest.raises(UsageError, match=r"d\.parquet: expected a") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv"])
def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path, name: str) -> None:
    head = b"text\n" if name == "d.csv" else b'{"text": "ok"}\n'
    (tmp_path / name).write_bytes(head + b'{"text": "\xff"}\n')
    with pytest.raises(
        UsageError, match=rf"{name}:2: expected UTF-8 text, got byte 11 of the line, which is not UTF-8"
    ):
        read(tmp_path / name)
    (tmp_path / "a.json").write_bytes(b'[{"text": "\xff"}]')
    with pytest.raises(UsageError, match=r"a\.json: expected UTF-8 text"):
        read(tmp_path / "a.json")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.csv", "none.json", "none.parquet", "none"):
        with pytest.raises(UsageError, match=f"{name}: expected a readable data file, got no such file;"):
            read(tmp_path / name)
    with pytest.raises(UsageError, match="expected a data set: a folder with data files"):
        read(tmp_path)


def test_a_hub_data_set_out_of_reach_is_one_line(tmp_path: Path) -> None:
    code = "from dpaudit.data.reading import read_records; list(read_records('nobody/nothing-of-this-name'))"
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}  # read once, on import
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=offline, capture_output=True, text=True, check=False
    )
    last = run.stderr.splitlines()[-1]
    assert (
        "nobody/nothing-of-this-name: expected a data file or folder, or a hub id within reach, got an error "
        in last
    )


def test_plain_text_is_a_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one\n\n two [x]\r\n")
    assert [r.text for r in read(tmp_path / "t.txt")] == ["one", " two [x]"]
    (tmp_path / "u.txt").write_text('{"text": "one"}\n')
    assert [r.text for r in read(tmp_path / "u.txt")] == ["one"]


def test_a_cell_longer_than_the_csv_module_takes_by_itself(tmp_path: Path) -> None:
    long = "word " * 40_000
    (tmp_path / "d.csv").write_text(f'question,answer\nq,"{long}"\n')
    assert [r.turns[-1].text for r in read(tmp_path / "d.csv")] == [long]


@pytest.mark.parametrize(
    ("encoding", "remedy"),
    [
        ("gb18030", "iconv -f GB18030 -t UTF-8"),
        ("cp1252", "iconv -f WINDOWS-1252 -t UTF-8"),
        ("utf-16-le", "iconv -f UTF-16LE"),
    ],
)
def test_other_encodings_are_told_with_their_way_out(tmp_path: Path, encoding: str, remedy: str) -> None:
    text = "头疼两天了，应该吃什么药？" if encoding == "gb18030" else "Zürich, naïve"
    for name in ("d.jsonl", "d.json"):
        (tmp_path / name).write_bytes(json.dumps({"text": text}, ensure_ascii=False).encode(encoding))
        with pytest.raises(UsageError, match=f"expected UTF-8 text, .*; convert it: {remedy}"):
            read(tmp_path / name)


@pytest.mark.parametrize("text", ["Ärger mit Ölen", "Gefäßäderung: ÄÖ", "头疼两天了"])
def test_of_bytes_that_are_no_utf8_both_guesses_are_told(tmp_path: Path, text: str) -> None:
    """Two letters with accents side by side look like Chinese: only a reader can tell."""
    encoding = "gb18030" if "头" in text else "latin-1"
    (tmp_path / "d.jsonl").write_bytes(json.dumps({"text": text}, ensure_ascii=False).encode(encoding))
    with pytest.raises(UsageError, match=r"iconv -f .*look at the result") as caught:
        read(tmp_path / "d.jsonl")
    assert all(f"-f {name}" in str(caught.value) for name in ("GB18030", "WINDOWS-1252"))


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"BZh91AY", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ"])
def test_archives_are_refused(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(head + b"x" * 20)
    with pytest.raises(UsageError, match=r"expected a data file, plain or gzipped, got .*; unpack it"):
        read(tmp_path / "d.jsonl")


@pytest.mark.parametrize(
    "change", [lambda b: b[:-20], lambda b: b[:40] + b"\0" * 30 + b[70:], lambda b: b[:9]]
)
def test_a_damaged_gzip_file_is_one_line(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    packed = gzip.compress("".join(json.dumps({"text": f"{i} {i * i}"}) + "\n" for i in range(500)).encode())
    (tmp_path / "d.jsonl.gz").write_bytes(change(packed))
    with pytest.raises(UsageError, match=r"d\.jsonl\.gz"):
        read(tmp_path / "d.jsonl.gz")


@pytest.mark.parametrize("rest", ["[]", '[{"text": "y"}]', "x", '{"text": "y"}'])
@pytest.mark.parametrize("array", ['[{"text": "x"}]', "[]"])
def test_what_follows_an_array_is_not_passed_over(tmp_path: Path, array: str, rest: str) -> None:
    (tmp_path / "a.json").write_text(f"{array}\n{' ' * CHUNK}\n{rest}")
    with pytest.raises(
        UsageError, match=r"a\.json: expected one JSON array, got text after its end; .*jq -s add"
    ):
        read(tmp_path / "a.json")


def test_times_beside_the_texts_are_no_hindrance(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "day": pa.array([10**6], pa.date32()),
        "far": pa.array([10**7], pa.date32()),
        "at": pa.array([1], pa.timestamp("ns", "UTC")),
        "lost": pa.array([10**15], pa.timestamp("s")),
        "took": pa.array([1], pa.duration("ns")),
        "hour": pa.array([1], pa.time64("ns")),
        "price": pa.array([1], pa.decimal128(20, 3)),
        "raw": pa.array([b"\xff"]),
        "id": ["a"],
    }
    pq.write_table(pa.table({"text": ["x"], **columns}), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet") == [Record("a", (), text="x")]
    for name, kind in (
        ("far", "a date"),
        ("lost", "a date"),
        ("took", "a span of time"),
        ("hour", "a time of day"),
        ("raw", "bytes"),
    ):
        pq.write_table(pa.table({"text": ["x"], "patient_id": columns[name]}), tmp_path / "d.parquet")
        with pytest.raises(UsageError, match=rf"d\.parquet:1: patient_id: expected a text .* got {kind};"):
            read(tmp_path / "d.parquet")
        pq.write_table(pa.table({"text": columns[name]}), tmp_path / "d.parquet")
        with pytest.raises(UsageError, match=rf"d\.parquet:1: text: expected a non-empty text, got {kind}"):
            read(tmp_path / "d.parquet")
    turns = pa.StructArray.from_arrays(
        [pa.array(["user", "assistant"]), pa.array(["q", "a"]), pa.array([10**15] * 2, pa.timestamp("s"))],
        ["role", "content", "at"],
    )
    pq.write_table(pa.table({"messages": pa.ListArray.from_arrays([0, 2], turns)}), tmp_path / "d.parquet")
    with pytest.raises(UsageError, match=r"d\.parquet: expected texts, numbers and lists of them"):
        read(tmp_path / "d.parquet")


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (
            "configs:\n- data_files: http://127.0.0.1:9/d.jsonl",
            "data_files: expected files in the folder, got an address elsewhere",
        ),
        (
            "configs:\n- data_files:\n  - split: train\n    path: [d.jsonl, 'hf://datasets/a/b/d.jsonl']",
            "got an address elsewhere",
        ),
        (
            "configs:\n- data_files: ../other.jsonl",
            "expected files in the folder, got a path outside of the folder",
        ),
        (
            "configs:\n- data_files: /etc/passwd",
            "expected files in the folder, got a path outside of the folder",
        ),
        ("configs:\n- data_dir: ../other", "got a path outside of the folder"),
        ("configs:\n- data_files: [3]", "data_files: expected names of files"),
        (
            "configs:\n- {config_name: a, data_files: d.jsonl}\n- {config_name: b, data_files: d.jsonl}",
            "expected one configuration",
        ),
        ("configs: [\n", "README.md: expected YAML between the dashes"),
        ("a: &a [*a]", ""),
    ],
)
def test_a_readme_leads_nowhere_else(tmp_path: Path, head: str, wanted: str) -> None:
    write(tmp_path / "other.jsonl", {"text": "of others"})
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "d.jsonl", {"text": "x"})
    (folder / "README.md").write_text(f"---\n{head}\n---\n")
    if not wanted:
        assert [r.text for r in read(folder)] == ["x"]
        return
    with pytest.raises(UsageError) as caught:
        read(folder)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["set.py", ".set.py"])
def test_a_program_in_a_data_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "d.jsonl", {"text": "x"})
    write(folder / "convert.py", "raise SystemExit")
    assert len(read(folder)) == 1
    write(folder / name, f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(
        UsageError, match="expected data files, got a program that makes the data, which is not run"
    ):
        read(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("names", [("a.jsonl", "a.jsonl.gz"), ("a.jsonl", "b.csv")])
def test_copies_in_another_format_are_not_read_twice(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        write(tmp_path / name, {"text": "x"})
    with pytest.raises(UsageError, match="expected files of one format, which are parts and not copies"):
        read(tmp_path)


EXCEL = {
    "as it is saved": "\ufeffquestion;answer;patient_id\r\nq;a, b;7\r\n",
    "with capitals": "\ufeffQuestion;Answer;Patient ID\r\nq;a, b;7\r\n",
    "with empty columns": "\ufeffquestion;answer;patient_id;;\r\nq;a, b;7;;\r\n;;;;\r\n",
    "with empty columns in some rows": "question;answer;patient_id;;\r\nq;a, b;7\r\n",
    "quoted": '\ufeff"question";"answer";"patient_id"\r\n"q";"a, b";"7"\r\n',
    "with line ends in cells": 'question;answer;patient_id\r\nq;"a, b\n";7\r\n',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", EXCEL)
def test_a_table_that_a_spreadsheet_saved(name: str, encoding: str, tmp_path: Path) -> None:
    text = EXCEL[name] if encoding == "utf-8" else EXCEL[name].removeprefix("\ufeff")
    (tmp_path / "d.csv").write_bytes(text.encode(encoding))
    [record] = read(tmp_path / "d.csv")
    assert [turn.text.strip() for turn in record.turns] == ["q", "a, b"] and record.patient == "7"


def test_a_text_in_a_column_without_a_name_is_no_empty_column(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(f"question;answer;\nq;a;{SECRET}\n")
    with pytest.raises(UsageError, match="expected 2 cells, as the heading has, got 3") as caught:
        read(tmp_path / "d.csv")
    assert SECRET not in str(caught.value)


def test_headings_that_nothing_knows_are_named_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("Frage;Antwort\nq;a, b, c\n")
    with pytest.raises(UsageError, match="got the columns Frage, Antwort; the first line must be a heading"):
        read(tmp_path / "d.csv")


def test_a_known_heading_keeps_the_others_as_they_are(tmp_path: Path) -> None:
    """A file that was understood before is read as before: its column `ID` is no name of a record."""
    (tmp_path / "d.csv").write_text("question,answer,ID\nq,a,1\np,b,1\n")
    assert [record.id for record in read(tmp_path / "d.csv")] == ["r2", "r3"]


def test_a_csv_file_may_tell_its_delimiter_or_divide_by_bars(tmp_path: Path) -> None:
    for text in ("sep=;\nquestion;answer\nq;a, b\n", "question|answer\nq|a, b\n"):
        (tmp_path / "d.csv").write_text(text)
        assert [r.turns[-1].text for r in read(tmp_path / "d.csv")] == ["a, b"]


def test_files_of_a_split_beside_others_are_ambiguous(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"text": "x"})
    write(tmp_path / "key.json", {"text": "y"})
    with pytest.raises(UsageError, match="got files of train and files that name no split; name the file"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"_data_files": [{"filename": "../../x.arrow"}]}', "x"])
def test_a_damaged_saved_data_set_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(UsageError, match=r"state\.json: expected "):
        read(tmp_path)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    bad = os.fsencode(tmp_path) + b"/b\xffd.jsonl"
    with open(bad, "w") as stream:
        stream.write('{"text": "x"}\n')
    with pytest.raises(UsageError, match="expected names in UTF-8"):
        read(tmp_path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(dialogue()), encoding="utf-8-sig")
    assert read(path) == read(write(tmp_path / "plain.jsonl", dialogue()))
