"""The command line: help, one line for each kind of bad input, and the whole lab on a toy model."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import fabricate
import pytest
import typer
import yaml

from dpaudit import cli, content
from dpaudit.commands import again, attack, groups, outcomes
from dpaudit.commands.asked import Asked
from dpaudit.errors import UsageError
from dpaudit.page import tables
from dpaudit.page.formats import show
from dpaudit.pipeline import gate, plans
from dpaudit.storage import rundir
from dpaudit.suite import loading

COMMANDS = [
    "", "demo", "run", "train", "attack", "attack mia", "attack extract", "attack list", "eval", "judge",
    "judge validate", "report", "report html", "account", "merge", "ls", "show",
]  # fmt: skip
MINI: dict[str, Any] = {
    "name": "mini",
    "model": {"max_length": 200},
    "data": {"source": "builtin:clinic", "patients": 150, "heldout": 12},
    "candidates": {"canaries": 100, "records": 20, "extraction": 4, "extraction_repetitions": 2},
    "training": {
        "clip": 0.1,
        "private": {"batch": 32, "steps": 2, "learning_rate": 0.01},
        "nonprivate": {"batch": 16, "steps": 2, "learning_rate": 0.01},
        "lora": {"rank": 2, "alpha": 4},
    },
    "grid": {"epsilons": [8]},
    "attacks": ["mia"],
    "evaluation": {"tasks": [{"name": "clinic_choice", "data": "builtin:clinic"}], "limit": 10},
    "judging": None,
}


CLAIM = "eps=3,delta=1e-5,unit=record,relation=add_or_remove"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], toy_model_dir: Path
) -> Call:
    """Types `dpaudit ...` in an empty folder that holds nothing but mini.yaml."""
    monkeypatch.chdir(tmp_path)
    suite = MINI | {"model": MINI["model"] | {"base": str(toy_model_dir)}}
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(suite))

    def typed(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["dpaudit", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Outcome(int(ended.value.code or 0), *capfd.readouterr())

    return typed


@pytest.mark.parametrize("command", COMMANDS)
def test_help(call: Call, command: str) -> None:
    done = call(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: dpaudit{' ' * bool(command)}{command}")
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("group", ["", "attack", "bound"])
def test_a_group_alone_shows_its_help(call: Call, group: str) -> None:
    assert call(*group.split()) == call(*group.split(), "--help")


def test_every_command_is_in_the_list(call: Call) -> None:
    shown = call("--help").out.split("Commands:")[1]
    named = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert named == list(cli.COMMANDS)


def test_version(call: Call) -> None:
    assert call("--version") == (0, f"dpaudit {cli.__version__}\n", "")


def one_line(done: Outcome, *wanted: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr with every part, and no run left behind."""
    assert done.code == 2, done
    assert done.out == "" and done.err.count("\n") == 1, done.err
    assert done.err.startswith("dpaudit: ")
    for part in wanted:
        assert part in done.err
    assert not Path("runs").exists()


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
        "No such file",
        "--data",
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
        ("--text none.csv", ["none.csv", "a readable data file", "No such file"]),
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
        "grid.baseline=false", "--dry-run")  # fmt: skip
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


@pytest.mark.parametrize("typed", sorted(groups.EXAMPLES))
def test_a_command_that_lacks_an_option_is_told_a_whole_one(call: Call, typed: str) -> None:
    """Nothing is missing from that one."""
    words, example = typed.split()[1:], groups.EXAMPLES[typed]
    one_line(call(*words), f"for example: {example}")
    command: Any = typer.main.get_command(cli.app)
    for word in words:
        command = command.commands[word]
    command.make_context(typed, shlex.split(example)[len(words) + 1 :])


def test_a_folder_in_place_of_a_file_is_told_with_what_to_do(call: Call) -> None:
    Path("folder").mkdir()
    for words in (
        "bound scores folder --delta 1e-5",
        "plant folder --out o.jsonl --key k.json",
        f"verify --adapter a --base builtin:tiny --key folder --claim {CLAIM}",
    ):
        one_line(call(*words.split()), "folder: expected ", "got a folder; name the file itself")
    items = "--set", "evaluation.tasks=[{name: medqa_us_file, data: folder}]"
    one_line(
        call("run", "mini.yaml", *items),
        "evaluation.tasks: medqa_us_file",
        "got a folder; name the file itself",
    )


@pytest.mark.parametrize("command", ["train --suite mini.yaml", "run mini.yaml"])
def test_rows_are_of_a_file(call: Call, command: str) -> None:
    one_line(
        call(*command.split(), "--rows", "0:5"), "data.rows", "a data file", "got builtin:clinic", "--data"
    )


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (["--unit", "pair"], ["training.unit", "unit record or patient", "got unit pair with sft arms"]),
        (
            ["--set", "training.records_per_patient=1"],
            ["candidates.extraction_repetitions", "at most training.records_per_patient = 1", "got 2"],
        ),
    ],
)
def test_units_that_do_not_fit(call: Call, settings: list[str], wanted: list[str]) -> None:
    one_line(call("train", "--suite", "mini.yaml", *settings), *wanted)


@pytest.mark.parametrize(
    ("name", "words", "seed"),
    [
        ("small", ["data.source=a file.jsonl", "training.unit=patient", "candidates.records=8"], 0),
        ("demo", [], 4),
        ("demo", ["grid.epsilons=[3, 0.5]", "evaluation.tasks=[]", "judging=null"], 1),
    ],
)
def test_the_command_that_goes_on_with_a_run_makes_the_same_plan(
    name: str, words: list[str], seed: int
) -> None:
    plan = plans.resolve(name, Asked(settings=words).overrides(), seed)
    command = again.command_of(plan, Path("elsewhere"))
    assert command is not None
    typed = shlex.split(command)
    assert typed[:4] == ["dpaudit", "train", "--suite", name] and typed[-2:] == ["--runs", "elsewhere"]
    said = dict(zip(typed[4::2], typed[5::2], strict=True))
    settings = [value for option, value in zip(typed[4::2], typed[5::2], strict=True) if option == "--set"]
    changed = Asked(data=said.get("--data"), settings=settings).overrides()
    assert plans.resolve(name, changed, int(said.get("--seed", "0"))) == plan
    assert again.command_of(replace(plan, versions={"torch": "0"})) is None


def test_unit_pair_is_for_preference_pairs_alone() -> None:
    only_dpo = Asked(unit="pair", dpo="sigmoid", settings=["grid.stages=[]"]).overrides()
    gate._check_unit(loading.load("demo", only_dpo))
    with pytest.raises(UsageError, match="no dialogue belongs to a pair"):
        gate._check_unit(loading.load("demo", Asked(unit="pair").overrides()))


def test_options_for_data_are_keys_of_the_suite() -> None:
    changed = Asked(data="d.csv", rows="0:9", text="t.parquet").overrides()
    assert changed == {"data.source": "d.csv", "data.rows": "0:9", "data.text": "t.parquet"}


def dialogue(number: int, **more: str) -> str:
    turns = [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": f"a {number}"}]
    return json.dumps({"messages": turns, **more}) + "\n"


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


@pytest.mark.parametrize(
    ("typed", "name", "is_told"),
    [
        ({}, "demo", True),
        ({"data.source": "my notes/Ward 3.jsonl"}, "Ward-3", False),
        ({"data.source": "d.jsonl", "name": "mine"}, "mine", False),
        ({"data.source": "d.jsonl", "description": "Of ward 3."}, "d", True),
        ({"model.base": "models/own"}, "demo", False),
    ],
)
def test_a_run_on_own_data_does_not_bear_the_demos_name(
    typed: dict[str, str], name: str, is_told: bool
) -> None:
    chosen = plans.resolve("demo", typed).suite
    assert (chosen.name, bool(chosen.description)) == (name, is_told)


def test_own_data_in_an_own_suite_keep_its_name(tmp_path: Path) -> None:
    own = MINI | {"data": {"source": "a.jsonl"}, "description": "Ward a."}
    (tmp_path / "ward.yaml").write_text(yaml.safe_dump(own))
    chosen = plans.resolve(str(tmp_path / "ward.yaml"), {"data.source": "b.jsonl"}).suite
    assert (chosen.name, chosen.description) == ("mini", "")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("attack mia --recipe extraction", ["--recipe extraction", "kind mia: calibrated", "attack extract"]),
        (
            "attack extract --recipe loss",
            ["--recipe loss", "kind extract: discoverable, extraction, pii", "attack mia"],
        ),
        ("attack mia --recipe nope", ["attacks/nope", "calibrated"]),
    ],
)
def test_a_recipe_of_another_kind_is_refused(call: Call, words: str, wanted: list[str]) -> None:
    fabricate.run(Path("runs"))
    done = call(*words.split())
    assert (done.code, done.out) == (2, "") and all(part in done.err for part in wanted), done


def test_a_faulty_recipe_of_ones_own_stops_what_would_use_it_alone(call: Call) -> None:
    fabricate.run(Path("runs"))
    Path("attacks").mkdir()
    Path("attacks/mine.yaml").write_text((content.shipped("attacks") / "min_k.yaml").read_text())
    assert "mine.yaml: name: expected mine, got min_k" in call("attack", "mia").err
    told = call("attack", "mia", "--recipe", "nope").err
    assert "attacks/nope" in told and "mine.yaml" not in told


def test_an_attack_shows_the_arms_and_recipes_that_were_asked_for(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    every = outcomes.verdict_rows(run_dir, plan)
    assert outcomes.narrowed(every, None, None) == every
    one = outcomes.narrowed(every, ["sft-eps4"], ["loss"])
    assert [(row["arm"], row["recipe"]) for row in one] == [("sft-eps4", "loss")]
    (secrets,) = outcomes.narrowed(outcomes.extraction_rows(run_dir, plan), ["sft-inf"], ["extraction"])
    assert secrets["arm"] == "sft-inf"


def test_current_outputs_are_told_by_folder_and_stale_ones_by_name() -> None:
    files = {
        "audit/sft-inf/loss.json": "current",
        "audit/sft-inf/zlib.json": "current",
        "report/report.json": "stale",
    }
    told = tables.as_text({"outputs": [{"file": file, "state": state} for file, state in files.items()]})
    assert [line.split() for line in told.splitlines()[1:]] == [
        ["audit/sft-inf/", "2", "current"],
        ["report/report.json", "stale"],
    ]


def test_a_table_of_attacks_has_limits_exposures_and_whose_recipe_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    row = outcomes.verdict_rows(run_dir, plan)[0]
    told = tables.as_text({"verdicts": [row]})
    assert f"[{show(row['auc_lower'], 'three_down')}, {show(row['auc_upper'], 'three_up')}]" in told
    assert "95 %" in told and show(row["blind_auc"], "three") in told and row["records_n"] > 0
    secrets = outcomes.extraction_rows(run_dir, plan)[0]
    assert secrets["median_planted"] is not None and secrets["space_bits"] > 0
    assert "median exposure" in tables.as_text({"extraction": [secrets]})
    (tmp_path / "attacks").mkdir()
    mine = (content.shipped("attacks") / "loss.yaml").read_text().replace("name: loss", "name: mine")
    (tmp_path / "attacks/mine.yaml").write_text(mine)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "90")
    rows = attack.recipe_rows()
    assert [found["name"] for found in rows if found["own"]] == ["mine"]
    listed = tables.as_text({"recipes": rows}).splitlines()
    assert max(map(len, listed)) <= 90 and any(line.split()[:2] == ["mine", "yes"] for line in listed)


def test_an_unfit_judge_is_told_with_its_reason_and_no_win_rate(tmp_path: Path) -> None:
    fit, _ = fabricate.run(tmp_path)
    assert outcomes.judge_summary(fit)["pairs"][0]["win_rate"] == 0.81
    unfit, _ = fabricate.run(tmp_path / "unfit", judge_fit=False)
    told = outcomes.judge_summary(unfit)
    assert "pairs" not in told and told["reason"] == "negated warning: too few seen"
    assert "reason: negated warning" in tables.as_text(told)


def test_no_finding_is_printed_as_python_writes_it() -> None:
    """Nor where nobody wrote headings for it."""
    rows = [{"of": {"kind": "a", "count": None}, "in": [1, 2], "was_checked": True}]
    told = tables.as_text({"unforeseen": rows, "other": {"inner": {"list": ["x"], "none": None}}})
    assert told.splitlines() == [
        "of               in    was checked",
        "kind a, count –  1, 2  yes",
        "",
        "other: inner list x, none –",
    ]


def test_a_ceiling_is_rounded_as_on_the_page(tmp_path: Path) -> None:
    rows = [{"arm": "a", "ceiling": 4.1899}]
    assert "4.18" in tables.as_text({"verdicts": rows})


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


def last(err: str) -> str:
    """The last line: what comes before it is the progress of the reading."""
    *before, line = err.splitlines()
    assert all(text.endswith("...") for text in before)
    return line + "\n"


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


@pytest.mark.parametrize("epsilon", ["0", "-1", "8,0", "nan", "x"])
def test_epsilon_of_zero_or_below(call: Call, epsilon: str) -> None:
    done = call("train", "--suite", "mini.yaml", f"--eps={epsilon}")
    one_line(done, "--eps", "numbers above 0", f"got {epsilon}")


def test_epsilon_of_zero_in_the_suite(call: Call) -> None:
    done = call("train", "--suite", "mini.yaml", "--set", "grid.epsilons=[0]")
    one_line(done, "grid.epsilons as typed", "numbers above 0, got 0")
    assert "mini.yaml" not in done.err
    Path("own.yaml").write_text(yaml.safe_dump(MINI | {"grid": {"epsilons": [0]}}))
    one_line(call("train", "--suite", "own.yaml"), "own.yaml: grid.epsilons", "numbers above 0, got 0")


@pytest.mark.parametrize(
    ("key", "kinds", "minimum"), [("canaries", "[mia]", 100), ("extraction", "[extract]", 4)]
)
def test_fewer_canaries_than_the_recipe_asks_for(call: Call, key: str, kinds: str, minimum: int) -> None:
    done = call("train", "--suite", "mini.yaml", "--set", f"candidates.{key}=3", "--set", f"attacks={kinds}")
    one_line(done, f"candidates.{key}", f"at least {minimum}", "attacks/", "got 3", "--set")


@pytest.mark.parametrize(
    "command", ["attack mia", "attack extract", "eval", "judge", "judge validate", "report html"]
)
def test_a_run_that_does_not_exist(call: Call, command: str) -> None:
    one_line(call(*command.split(), "--run", "gone"), "runs/gone", "expected a run", "dpaudit train")
    one_line(call(*command.split()), "runs/", "expected a run", "dpaudit train")


def test_show_a_run_that_does_not_exist(call: Call) -> None:
    one_line(call("show", "gone"), "runs/gone", "expected a run")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("train --suite nope", ["suites/nope", "demo", "no such file"]),
        ("train --suite mini.yaml --dpo nope", ["grid.dpo: nope", "sigmoid", "an unknown loss"]),
        ("train --suite mini.yaml --dpo SimPo,sigmiod", ["grid.dpo: sigmiod", "did you mean sigmoid?"]),
        (
            "train --suite mini.yaml --dpo kto --eps 8",
            ["grid.dpo: kto", "other rows' completions", "--eps inf"],
        ),
        ("train --suite mini.yaml --dpo AOT --eps 8", ["grid.dpo: aot", "sorts the whole batch"]),
        (
            "train --suite mini.yaml --dpo sft --eps inf",
            ["grid.dpo: sft", "mean over all tokens of the batch"],
        ),
        ("train --suite mini.yaml --unit label", ["grid.dpo", "robust alone", "no loss"]),
        ("train --suite mini.yaml --unit label --dpo sigmoid", ["grid.dpo", "robust alone", "sigmoid"]),
        (
            "train --suite mini.yaml --dpo sigmoid --set data.preference=null",
            ["data.preference", "preference pairs", "no value", "--set data.preference=FILE, or =faults"],
        ),
        ("train --suite mini.yaml --unit word", ["training.unit", "record, patient", "'word'"]),
        ("train --suite mini.yaml --set primary=nope", ["attacks/nope", "calibrated"]),
        ("train --suite mini.yaml --set primary=extraction", ["primary", "kind mia", "extraction"]),
        ("train --suite mini.yaml --set judging.rubric=nope", ["judges/nope", "likelihood"]),
        ("train --suite mini.yaml --set steps", ["--set steps", "KEY=VALUE"]),
        ("train --suite mini.yaml --set foo=1", ["foo as typed", "an unknown key"]),
        ("train --suite mini.yaml --set training.clipp=1", ["training.clipp as typed", "did you mean clip?"]),
        (
            "train --suite mini.yaml --set training.clip=-1",
            ["training.clip as typed: expected a number above 0, got -1.0"],
        ),
        (
            "train --suite mini.yaml --set grid.dpo=[1]",
            ["grid.dpo[0] as typed", "expected a text, got a whole number, 1"],
        ),
        ("train --suite mini.yaml --eps 1,1", ["--eps", "each epsilon once", "got 1,1"]),
        ("train --suite mini.yaml --eps 1,8,1.0", ["--eps", "each epsilon once", "got 1,8,1.0"]),
        (
            'train --suite mini.yaml --set evaluation.tasks=[{"name":"cmexam_file","data":"no.jsonl"}]',
            ["evaluation.tasks: cmexam_file: data", "no such file", "no.jsonl"],
        ),
        ("trian", ["trian", "train"]),
        ("train --esp 3", ["--esp"]),
        ("train --suite mini.yaml --seed 900", ["--seed", "0 to 899", "got 900"]),
        ("train --suite mini.yaml --set data.patients=1000001", ["data.patients", "at most 1000000"]),
        ("train --seed x", ["--seed", "valid integer"]),
        ("account --rate .1 --steps 5 --delta 1e-5", ["--sigma", "--eps", "got neither"]),
        ("account --eps 1 --sigma 1 --rate .1 --steps 5 --delta 1e-5", ["got --sigma and --eps"]),
        ("account --eps 1 --rate 0 --steps 5 --delta 1e-5", ["--rate", "above 0", "got 0"]),
        ("account --eps 1 --rate .1 --steps 0 --delta 1e-5", ["--steps", "at least 1", "got 0"]),
        ("account --eps 1 --rate .1 --steps 5 --delta 1", ["--delta", "below 1", "got 1"]),
        ("account --eps 1 --rate .1 --steps 5", ["--delta"]),
        ("merge --out model", ["--arm", "--adapter", "got neither; for example: dpaudit merge --arm"]),
        ("merge --out model --arm a --adapter b", ["--arm", "--adapter", "got both"]),
        ("merge --out model --adapter nowhere", ["--adapter nowhere", "adapter_config.json"]),
        ("merge --out model --arm sft-eps8", ["runs/", "expected a run"]),
    ],
)
def test_other_slips(call: Call, words: str, wanted: list[str]) -> None:
    one_line(call(*words.split()), *wanted)


def test_a_batch_above_the_population_leaves_no_run(call: Call) -> None:
    done = call("train", "--suite", "mini.yaml", "--set", "training.private.batch=9999")
    assert done.code == 2 and "training.private.batch" in done.err.splitlines()[-1]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--eps 1e-9 --set training.delta=1e-10", "grid.epsilons: expected a claim that noise can keep"),
        ("--set training.delta=0.5", "training.delta: expected less than 1 / "),
        (
            "--set training.population=20",
            "training.private.batch: expected an expected batch of at most 20 units",
        ),
        (
            "--set training.lora.targets=[q_prj]",
            "training.lora.targets: expected all-linear, or names of the model's linear layers, got q_prj; "
            "it has q_proj",
        ),
        ("--set training.lora.use_dora=true", "training.lora.use_dora"),
        ("--set training.packing=true", "training.packing"),
        (
            "--start nowhere",
            "--start nowhere: expected an adapter folder with adapter_config.json, got no such folder",
        ),
    ],
)
def test_what_cannot_be_trained_leaves_no_run(call: Call, words: str, wanted: str) -> None:
    done = call("train", "--suite", "mini.yaml", "--no-baseline", *words.split())
    assert done.code == 2 and done.out == ""
    assert done.err.splitlines()[-1].startswith("dpaudit: ") and wanted in done.err.splitlines()[-1]
    assert "Traceback" not in done.err and not Path("runs").exists()


def test_a_large_delta_is_allowed_to_who_asks_for_it(call: Call) -> None:
    words = (
        "train",
        "--suite",
        "mini.yaml",
        "--no-baseline",
        "--set",
        "training.delta=0.1",
        "--dry-run",
        "--json",
    )
    assert "--allow-delta" in call(*words).err
    done = call(*words, "--allow-delta")
    assert done.code == 0 and json.loads(done.out)["forecast"][0]["noise_multiplier"] > 0
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("suite", "arms"),
    [
        (
            "dpsgd-lora",
            ["sft-inf", "sft-eps3", "sft-eps1", "sft-eps0.1", "sft-eps0.01", "sft-eps0.001", "sft-eps0.0001"],
        ),
        (
            "medical-dpo-8b",
            [
                "cpt-inf",
                "cpt-eps4",
                "cpt-eps2",
                "sft-inf",
                "sft-eps8",
                "sft-eps4",
                "dpo-sigmoid-inf",
                "dpo-sigmoid-eps8",
            ],
        ),
    ],
)
def test_the_origins_suites_are_forecast_with_nothing_at_hand(
    call: Call, suite: str, arms: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = call("train", "--suite", suite, "--dry-run", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["forecast"]
    assert [row["arm"] for row in rows] == arms
    noise = [row["noise_multiplier"] for row in rows if row["epsilon"] != "inf"]
    assert all(value > 0.3 for value in noise)
    for row in rows:
        assert (row["noise_multiplier"] is None) == (row["epsilon"] == "inf")
        assert row["steps"] > 0 and row["memory_gib"] > 0.5
    if suite == "dpsgd-lora":
        assert noise == sorted(noise)  # a smaller claim needs more
    assert sorted(path.name for path in Path().iterdir()) == ["mini.yaml"]


def test_a_suite_name_that_leaves_the_folder(call: Call) -> None:
    one_line(
        call("train", "--suite", "mini.yaml", "--set", "name=../../evil"), "name as typed", "letters, digits"
    )


def test_runs_that_is_a_file(call: Call) -> None:
    Path("taken").write_text("text")
    done = call("train", "--suite", "mini.yaml", "--runs", "taken")
    one_line(done, "taken", "expected a folder, got a file")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "p/q"), FileNotFoundError(2, "No such file", "p/q")]
)
def test_a_path_that_the_system_refuses(call: Call, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refused(runs: Path) -> list[object]:
        raise error

    monkeypatch.setattr(rundir, "existing", refused)
    one_line(call("ls"), "p/q: expected ", f"got {error.strerror}")


def test_a_broken_file_of_a_run(call: Call) -> None:
    """It is named, and never quoted."""
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    run_dir.file("attack/sft-inf").mkdir(parents=True)
    run_dir.file("attack/sft-inf/scores.parquet").write_text("a patient's words")
    shown = call("show")
    assert shown.code == 2 and shown.out == "" and shown.err.count("\n") == 1
    assert re.search(r"attack/sft-inf/scores.parquet: .* got a broken one; .* `dpaudit attack", shown.err)


def broken_json() -> None:
    json.loads("{a patient's words")


def broken_parquet() -> None:
    import io

    import pyarrow.parquet

    pyarrow.parquet.read_table(io.BytesIO(b"a patient's words"))


@pytest.mark.parametrize("reading", [broken_json, broken_parquet])
def test_what_is_broken_is_not_quoted(
    call: Call, monkeypatch: pytest.MonkeyPatch, reading: Callable[[], None]
) -> None:
    monkeypatch.setattr(rundir, "existing", lambda runs: reading())
    done = call("ls")
    one_line(done, "a file of the run: expected ", "delete the file", "type the command again")
    assert "patient" not in done.err


def test_a_failed_plan_leaves_other_runs_alone(call: Call) -> None:
    kept = rundir.open_or_create({"a": 1}, "other", Path("runs"))
    done = call("train", "--suite", "mini.yaml", "--data", "none.jsonl")
    assert done.code == 2
    assert [path.name for path in Path("runs").iterdir()] == [kept.name]


def test_the_calculator(call: Call) -> None:
    """There and back; a delta that is too large for the population is told on stderr, and the answer still
    comes.
    """
    schedule = ("--batch", "20", "--population", "2000", "--steps", "200")
    needed = call("account", "--eps", "2", *schedule, "--delta", "1e-5", "--json")
    assert (needed.code, needed.err) == (0, "")
    noise = json.loads(needed.out)["noise_multiplier"]
    spent = call("account", "--sigma", str(noise), *schedule, "--delta", "1e-5", "--json")
    assert 1.996 < json.loads(spent.out)["epsilon"] <= 2
    warned = call("account", "--sigma", str(noise), *schedule, "--delta", "1e-3")
    assert warned.code == 0 and warned.out.startswith("epsilon: ")
    assert warned.err.count("\n") == 1 and "not below 1 / population" in warned.err


@pytest.mark.parametrize("seed", [3, None])
def test_an_insecure_seed_withdraws_the_claim_wherever_it_is_shown(call: Call, seed: int | None) -> None:
    words, insecure = "epsilon not claimed: the noise is reproducible", seed is not None
    run_dir, _ = fabricate.run(Path("runs"), insecure_seed=seed)
    assert (words in call("show").out.splitlines()) == insecure
    assert (f"{words} ({run_dir.name})" in call("ls").out.splitlines()) == insecure
    for command in ("show", "ls", "report html"):
        found = json.loads(call(*command.split(), "--json").out)
        assert bool(found["caveat"]) == insecure
    page = " ".join(re.sub(r"<[^>]+>", "", run_dir.file("report/index.html").read_text()).split())
    assert ("target ε = 8, not claimed" in page) == insecure
    assert ("claims ε ≤" in page) != insecure
    assert ("Whoever receives all private adapters" in page) != insecure


def test_report_alone_writes_the_page(call: Call) -> None:
    """As `report html` does; what stands before the word `html` belongs behind it."""
    run_dir, _ = fabricate.run(Path("runs"))
    alone = call("report", "--json")
    assert alone.code == 0 and json.loads(alone.out)["page"] == str(run_dir.file("report/index.html"))
    page = run_dir.file("report/index.html").read_bytes()
    assert page.startswith(b"<!DOCTYPE html>")
    named = call("report", "html", "--json")
    assert named.out == alone.out and run_dir.file("report/index.html").read_bytes() == page
    refused = call("report", "--run", run_dir.name, "html")
    assert refused.code == 2 and "expected options after the word html" in refused.err


OUR_LINES = re.compile(
    r"[\w :,.&()'-]+( \.\.\.|: done \(.+ s\)|: \d+(/\d+)? \(\d+ s\))|sft-\w+: skipped: needs "
    r".*|near-duplicates: .*|report: .*|not on the page: .*|commitment.*|note.*|blind baseline: .*"
)


def test_the_lab_on_a_toy_model(call: Call) -> None:
    """Each stage in sequence with no option; what is done is skipped; `--json` is one object; stderr has our
    lines alone.
    """
    said: list[str] = []

    def told(*words: str) -> Outcome:
        done = call(*words)
        said.extend(done.err.splitlines())
        return done

    trained = told("train", "--suite", "mini.yaml", "--insecure-seed", "5", "--json")
    assert trained.code == 0
    found = json.loads(trained.out)
    assert found["caveat"] == "epsilon not claimed: the noise is reproducible"
    assert [(row["arm"], row["trained"]) for row in found["arms"]] == [("sft-inf", True), ("sft-eps8", True)]
    assert 7.9 < found["arms"][1]["epsilon_spent"] <= 8
    early = told("report", "html")
    assert early.code == 0 and Path(found["path"], "report/index.html").is_file()
    attacked = json.loads(told("attack", "mia", "--json").out)
    assert {row["recipe"] for row in attacked["verdicts"]} >= {"loss", "calibrated", "min_k_pp", "zlib"}
    assert [
        row["verdict"] for row in attacked["verdicts"] if row["arm"] == "sft-eps8" and row["primary"]
    ] == ["no power"]
    measured = json.loads(told("eval", "--json").out)
    assert {(row["arm"], row["measure"]) for row in measured["quality"]} == {
        (arm, measure)
        for arm in ("base", "sft-inf", "sft-eps8")
        for measure in ("bits per byte", "clinic_choice")
    }
    page = Path(json.loads(told("report", "html", "--json").out)["page"])
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    again = told("run", "mini.yaml", "--insecure-seed", "5")
    assert again.code == 0 and str(page) in again.out and "training" not in again.err
    assert found["caveat"] in again.out.splitlines()
    listed = json.loads(told("ls", "--json").out)["runs"]
    assert [(row["arms"], row["verdicts"]) for row in listed] == [("2/2", {"sft-eps8": "no power"})]
    assert listed[0]["stages"] == ["prepare", "train", "attack", "eval", "report"]
    shown = told("show").out
    assert "sft-eps8" in shown and "stale" not in shown and str(page) in shown
    assert "{" not in shown and "to go on type" not in shown
    named = told("show", "--adapter", str(page.parents[1] / "train" / "sft-eps8")).out
    assert re.search(r"^run +arm +claimed epsilon", named, re.M) and "{" not in named and "custody" in named
    assert [line for line in said if not OUR_LINES.fullmatch(line)] == []

    _merges_an_arm(call)


def _merges_an_arm(call: Call) -> None:
    """The arm becomes a model whose ledger is checked; what cannot be merged is told in one line and leaves
    nothing.
    """
    from dpaudit.privacy import beside

    told = json.loads(call("merge", "--arm", "sft-eps8", "--out", "model", "--json").out)
    assert told["model"] == "model" and told["caveat"] == "epsilon not claimed: the noise is reproducible"
    found = beside.find(Path("model"))
    assert found is not None and found.epsilon <= 8 and found.data["merged_from"]["arm"] == "sft-eps8"
    again = call("merge", "--arm", "sft-eps8", "--out", "model")
    assert again.code == 2 and "--out model: expected a folder that does not exist yet" in again.err
    unknown = call("merge", "--arm", "sft-eps3", "--out", "other")
    assert unknown.code == 2 and "--arm sft-eps3: expected one of sft-inf, sft-eps8" in unknown.err
    spoilt = Path("model/privacy.json")
    spoilt.write_text(spoilt.read_text().replace('"steps": 2', '"steps": 1'))
    with pytest.raises(UsageError, match="an edited or exchanged one"):
        beside.find(Path("model"))
    assert not Path("other").exists()


@pytest.mark.slow
def test_few_own_records_run_as_the_readme_types_it(call: Call) -> None:
    """Sixty dialogues, all of the suite `small` but its length; the page bears neither the demo's name nor
    its words.
    """
    Path("ward.jsonl").write_text("".join(dialogue(n) for n in range(60)))
    done = call(
        "run",
        "small",
        "--data",
        "ward.jsonl",
        "--set",
        "training.private.steps=2",
        "--set",
        "training.nonprivate.steps=2",
        "--workers",
        "1",
    )
    assert done.code == 0, done.err
    (run_dir,) = rundir.existing(Path("runs"))
    page = run_dir.file("report/index.html").read_text(encoding="utf-8")
    assert "<h1>builtin:tiny, fine-tuned on ward.jsonl</h1>" in page
    assert not re.search(r"\bdemo\b", page)
    assert "dpaudit run small --data FILE" in (Path(cli.__file__).parents[1] / "README.md").read_text()


def test_own_data_under_the_demos_suite_are_evaluated(call: Call) -> None:
    """The demo's benchmark has no items for them: bits per byte are there all the same, and nothing trains
    again.
    """
    Path("ward.jsonl").write_text("".join(dialogue(n) for n in range(60)))
    changes = [
        "data.preference=null",
        "grid.dpo=[]",
        "data.heldout=10",
        "candidates.canaries=100",
        "candidates.records=20",
        "training.private.batch=32",
        "training.private.steps=2",
        "training.nonprivate.steps=2",
    ]
    words = [word for change in changes for word in ("--set", change)]
    trained = call(
        "train", "--data", "ward.jsonl", "--unit", "record", "--eps", "8", "--workers", "1", *words, "--json"
    )
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["run"].startswith("ward-")
    done = call("eval", "--json")
    assert done.code == 0 and "skipped: evaluation.tasks: clinic_choice: expected its items" in done.err
    measured = {(row["arm"], row["measure"]) for row in json.loads(done.out)["quality"]}
    assert measured == {(arm, "bits per byte") for arm in ("base", "sft-inf", "sft-eps8")}
    assert call("report", "html").code == 0
    (run_dir,) = rundir.existing(Path("runs"))
    page = run_dir.file("report/index.html").read_text(encoding="utf-8")
    assert "<strong>clinic_choice</strong> was skipped" in page and not re.search(r"\bdemo\b", page)
    assert "type <code>dpaudit eval</code>" not in page


def test_interrupt(call: Call, tmp_path: Path) -> None:
    """Ctrl-C while an arm trains: one line, exit code 130, and the run resumes. Nobody else can train it
    meanwhile.
    """
    words = ["train", "--suite", "mini.yaml", "--set", "training.nonprivate.steps=100000"]
    (tmp_path / "theirs").mkdir()  # as another container has a folder for temporary files of its own
    # a shell's `&` has it ignored
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heeded}; from dpaudit.cli import main; main()", *words]
    root = str(Path(cli.__file__).parents[1])
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "TMPDIR": str(tmp_path / "theirs")},
    ) as process:
        assert process.stderr is not None
        seen = ""
        while not seen.startswith("training sft-inf"):
            seen = process.stderr.readline()
            assert seen, "the command ended before an arm trained"
        refused = call(*words)
        assert (
            refused.code == 2
            and "expected nobody else at work on it, got another dpaudit, process" in refused.err
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "" and err.splitlines()[-1] == "dpaudit: interrupted; type the same command to resume"
    assert "Traceback" not in err
    (run_dir,) = rundir.existing(tmp_path / "runs")
    assert {path.name for path in run_dir.path.glob("train/*")} <= {
        ".sft-inf.partial"
    }  # a checkpoint, if it came so far
    assert not list(tmp_path.glob("runs/**/.*.tmp")) and not list(tmp_path.glob("runs/.*"))


@pytest.mark.slow
def test_two_trainers_of_one_run(call: Call, tmp_path: Path) -> None:
    """With folders for temporary files of their own, as two containers have: the second is refused, the first
    goes on.
    """
    words = ["train", "--suite", "mini.yaml", "--no-baseline", "--insecure-seed", "5", "--workers", "1"]
    assert call(*words, "--runs", "alone").code == 0
    [alone] = rundir.existing(tmp_path / "alone")
    (tmp_path / "theirs").mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(Path(cli.__file__).parents[1]),
        "TMPDIR": str(tmp_path / "theirs"),
    }
    command = [sys.executable, "-m", "dpaudit", *words]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as first:
        assert first.stderr is not None
        while not first.stderr.readline().startswith("training sft-eps8"):
            assert first.poll() is None, "the command ended before an arm trained"
        first.send_signal(signal.SIGSTOP)  # while it trains
        [run_dir] = rundir.existing(tmp_path / "runs")
        before = {file: file.read_bytes() for file in run_dir.path.rglob("*") if file.is_file()}
        second = call(*words)
        assert second.code == 2 and second.out == ""
        assert second.err.startswith(
            f"dpaudit: runs/{run_dir.name}: expected nobody else at work on it, got another dpaudit, process "
            f"{first.pid} on "
        )
        assert {file: file.read_bytes() for file in run_dir.path.rglob("*") if file.is_file()} == before
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=120)
    assert first.returncode == 0
    weights = "train/sft-eps8/adapter/adapter_model.safetensors"
    assert run_dir.file(weights).read_bytes() == alone.file(weights).read_bytes()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run_dir.name]


@pytest.mark.slow
def test_four_commands_in_an_empty_folder(tmp_path: Path) -> None:
    """What the README types one after the other, on the embedded model, with no other option."""
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    done = []
    for words in ("train --eps 1,4,8", "attack mia", "judge", "report html", "judge validate"):
        command = [sys.executable, "-m", "dpaudit.cli", *words.split()]
        done.append(subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True))
        assert done[-1].returncode == 0, f"{words}: {done[-1].stderr}"
    (run_dir,) = rundir.existing(tmp_path / "runs")
    assert run_dir.file("report/index.html").is_file()
    for arm in ("sft-inf", "sft-eps8", "sft-eps4", "sft-eps1"):
        assert all(arm in result.stdout for result in done[:2])


def test_a_termination_after_the_last_word_changes_nothing(tmp_path: Path) -> None:
    """An interpreter that ends takes its time, and the code is to be that of the work."""
    script = (
        "import atexit, os, signal\nfrom dpaudit import cli\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "attack", "list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_termination_is_an_interrupt(tmp_path: Path) -> None:
    """What a job queue sends: the same line and exit code as Ctrl-C."""
    script = (
        "import os, signal\nfrom dpaudit import cli\nfrom dpaudit.commands import attack\n"
        "attack.recipe_rows = lambda: os.kill(os.getpid(), signal.SIGTERM)\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "attack", "list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    assert (done.returncode, done.stderr) == (130, "dpaudit: interrupted; type the same command to resume\n")
