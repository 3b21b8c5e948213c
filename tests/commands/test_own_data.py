"""Data, models and suites of one's own: whatever is wrong with them is a line, and leaves no run."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typed import MINI, Call, Outcome, dialogue, last, one_line

from dpaudit.storage import run_store


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_mistakes_of_several_kinds_are_printed_a_line_each(call: Call, dry: tuple[str, ...]) -> None:
    """Of a wrong LoRA target, a benchmark that is not there and a patient that is missing: one start, three
    lines.
    """
    Path("d.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n' * 40
    )
    typed = ("--data", "d.jsonl", "--unit", "patient", "--set", "grid.dpo=[]", "--set",
        "training.lora.targets=[nowhere]",
             "--set", "evaluation.tasks=[{name: pubmedqa_file, data: none.jsonl}]")  # fmt: skip
    done = call("train", "--suite", "mini.yaml", *typed, *dry)
    lines = done.err.splitlines()
    assert (done.code, done.out, len(lines)) == (2, "", 3), lines
    assert all(line.startswith("dpaudit: ") for line in lines)
    for part in ("pubmedqa_file: data: ", "training.lora.targets: ", "d.jsonl:1: patient_id: "):
        assert part in done.err
    assert not Path("runs").exists()


def test_data_file_that_is_missing(call: Call) -> None:
    done = call("train", "--suite", "mini.yaml", "--data", "none.jsonl", "--set", "grid.dpo=[]")
    one_line(
        Outcome(done.code, done.out, last(done.err)),
        "none.jsonl",
        "a readable data file",
        "got no such file",
        "check the name and the folder",
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"conversations": [\n', ["d.jsonl:1", "expected one JSON object", "got a syntax error"]),
        (
            '{"conversations": [{"from": "human", "value": "q"}]}\n',
            ["d.jsonl:1", "ends with the assistant", "got a last turn of the user"],
        ),
        ("", ["d.jsonl", "at least one record", "an empty file"]),
        (
            '{"prompt": "q", "chosen": "a", "rejected": "b"}\n',
            ["d.jsonl", "dialogues", "got preference pairs"],
        ),
    ],
)
def test_data_file_that_is_malformed(call: Call, text: str, wanted: list[str]) -> None:
    Path("d.jsonl").write_text(text)
    done = call("train", "--suite", "mini.yaml", "--data", "d.jsonl")
    one_line(Outcome(done.code, done.out, last(done.err)), *wanted)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--rows 5", ["data.rows", "A:B with A below B", "got 5", "--rows 0:30000"]),
        ("--rows 9:3", ["data.rows", "A:B with A below B", "got 9:3"]),
        ("--rows 0:3", ["data.rows", "rows that d.jsonl has", "beyond its 2 records"]),
        ("--text none.csv", ["none.csv", "a readable data file", "got no such file"]),
        ("--text d.jsonl", ["d.jsonl", "plain text in every row", "got dialogues", "data.text"]),
        ("--text builtin:clinic", ["data.text", "a file beside a data file", "--text FILE"]),
    ],
)
def test_rows_and_text_that_cannot_be_read(call: Call, words: str, wanted: list[str]) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    Path("d.jsonl").write_text(2 * (json.dumps({"messages": turns}) + "\n"))
    done = call("train", "--suite", "mini.yaml", "--data", "d.jsonl", "--unit", "record", *words.split())
    one_line(Outcome(done.code, done.out, last(done.err) if done.err.count("\n") > 1 else done.err), *wanted)


def test_too_few_units_for_coins_are_told_with_a_number_that_works(call: Call) -> None:
    """Sixty rows of sixteen patients, as suite small is tried with unit patient."""
    Path("d.jsonl").write_text("".join(dialogue(n, patient_id=f"p{n % 16}") for n in range(60)))
    typed = ("train", "--suite", "mini.yaml", "--data", "d.jsonl", "--unit", "patient", "--set",
        "grid.baseline=false", "--dry-run", "--no-measure")  # fmt: skip
    refused = last(call(*typed).err)
    found = re.search(r"; (--set) (candidates\.records=\d+)$", refused)
    assert found is not None and "got 20" in refused
    done = call(*typed, *found.groups(), "--set", "training.private.batch=4")
    assert done.code == 0, done.err


def test_how_many_patients_there_are_is_told_when_the_corpus_is_made(call: Call) -> None:
    Path("d.jsonl").write_text("".join(dialogue(n, patient_id=f"p{n % 40}") for n in range(80)))
    done = call(
        "train",
        "--suite",
        "mini.yaml",
        "--data",
        "d.jsonl",
        "--unit",
        "patient",
        "--arm",
        "sft-eps8",
        "--set",
        "training.private.batch=4",
        "--set",
        "candidates.records=5",
    )
    assert (
        done.code == 0
        and "unit patient: 40 patients in 80 records, all records of a patient are hidden together"
        in done.err.splitlines()
    )


def test_a_row_behind_the_first_fifty_is_told_by_its_number(call: Call) -> None:
    """The gate reads fifty; the corpus is made of all, and a fault there leaves no run either."""
    Path("d.jsonl").write_text(
        "".join(map(dialogue, range(70))) + '{"messages": [{"role": "user", "content": "q"}]}\n'
    )
    done = call("train", "--suite", "mini.yaml", "--data", "d.jsonl", "--unit", "record")
    one_line(Outcome(done.code, done.out, last(done.err)), "d.jsonl:71: ")


def test_the_file_that_lacks_patients_is_named(call: Call) -> None:
    Path("d.jsonl").write_text("".join(dialogue(n, patient_id=str(n)) for n in range(20)))
    pairs = [
        {"prompt": f"q {n}", "chosen": "a", "rejected": "b"} | ({"patient_id": "1"} if n else {})
        for n in range(3)
    ]
    Path("pref.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = call(
        "train",
        "--suite",
        "mini.yaml",
        "--data",
        "d.jsonl",
        "--unit",
        "patient",
        "--set",
        "data.preference=pref.jsonl",
    )
    one_line(
        Outcome(done.code, done.out, last(done.err)),
        "pref.jsonl:1: patient_id",
        "no patient on 1 of 3 lines",
        "unit record",
    )


def test_unit_patient_without_patients(call: Call) -> None:
    Path("d.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
    )
    done = call("train", "--suite", "mini.yaml", "--data", "d.jsonl", "--unit", "patient")
    one_line(
        Outcome(done.code, done.out, last(done.err)),
        "patient_id",
        "got no patient on 1 of 1 lines",
        "unit record",
    )


def test_unknown_key_in_a_suite(call: Call) -> None:
    Path("own.yaml").write_text(yaml.safe_dump(MINI | {"evalution": {}}))
    one_line(call("run", "own.yaml"), "own.yaml: evalution", "an unknown key", "did you mean evaluation?")


def test_suite_that_is_no_yaml(call: Call) -> None:
    Path("own.yaml").write_text("name: [\n")
    one_line(call("run", "own.yaml"), "own.yaml:2", "expected valid YAML")


def test_model_folder_without_weights(call: Call) -> None:
    Path("bare").mkdir()
    one_line(call("train", "--suite", "mini.yaml", "--model", "bare"), "--model bare", "config.json")
    Path("bare/config.json").write_text("{}")
    one_line(call("train", "--suite", "mini.yaml", "--model", "bare"), "--model bare", "safetensors")


@pytest.mark.parametrize("model", ["nowhere", "./nowhere", "builtin:huge"])
def test_model_that_is_not_there(call: Call, model: str) -> None:
    one_line(call("train", "--suite", "mini.yaml", "--model", model), f"--model {model}", "no such folder")


def test_a_failed_plan_leaves_other_runs_alone(call: Call) -> None:
    kept = run_store.open_or_create({"a": 1}, "other", Path("runs"))
    done = call("train", "--suite", "mini.yaml", "--data", "none.jsonl")
    assert done.code == 2
    assert [path.name for path in Path("runs").iterdir()] == [kept.name]
