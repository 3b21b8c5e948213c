"""The command line as a whole: help, one line for each kind of bad input, interrupts."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typed import CLAIM, Call, Outcome, last, one_line

from dpaudit import cli
from dpaudit.commands import groups
from dpaudit.storage import run_store
from dpaudit.system import progress

COMMANDS = [
    "", "demo", "run", "train", "attack", "attack mia", "attack extract", "attack list", "eval", "judge",
    "judge validate", "report", "report html", "account", "merge", "ls", "show", "rm", "list",
]  # fmt: skip


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


@pytest.mark.parametrize("words", ["--quiet ls", "ls --quiet"])
def test_quiet_may_stand_anywhere_and_ends_with_the_command(
    call: Call, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    shown = []
    monkeypatch.setattr(progress, "show_tasks", shown.append)
    assert call(*words.split()) == call("ls")
    assert shown == [False, True]


@pytest.mark.parametrize(
    ("words", "known"),
    [("run sma", "small"), ("attack mia --recipe rm", "rmia"), ("judge --rubric local_z", "local_zh")],
)
def test_a_shell_completes_names(call: Call, monkeypatch: pytest.MonkeyPatch, words: str, known: str) -> None:
    monkeypatch.setenv("_DPAUDIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"dpaudit {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    assert call() == (0, f"{known}\n", "")


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
        f"verify --adapter a --base builtin:tiny --key folder --claim {CLAIM}",
    ):
        one_line(call(*words.split()), "folder: expected ", "got a folder; name the file itself")
    done = call("plant", "folder", "--out", "o.jsonl", "--key", "k.json")  # which may hold data
    one_line(Outcome(done.code, done.out, last(done.err)), "folder: ", "no file of a known format")
    items = "--set", "evaluation.tasks=[{name: medqa_us_file, data: folder}]"
    one_line(
        call("run", "mini.yaml", *items),
        "evaluation.tasks: medqa_us_file",
        "got a folder; name the file itself",
    )


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
        ("train --suite mini.yaml --unit label", ["grid.dpo", "only robust", "no loss"]),
        ("train --suite mini.yaml --unit label --dpo sigmoid", ["grid.dpo", "only robust", "sigmoid"]),
        ("train --suite mini.yaml --unit word", ["training.unit", "record, patient", "'word'"]),
        ("train --suite mini.yaml --set primary=nope", ["attacks/nope", "calibrated"]),
        ("train --suite mini.yaml --set primary=extraction", ["primary", "kind mia", "extraction"]),
        ("train --suite mini.yaml --set judging.rubric=nope", ["judges/nope", "likelihood"]),
        ("train --suite mini.yaml --set steps", ["--set steps", "KEY=VALUE"]),
        ("train --suite mini.yaml --set foo=1", ["foo as typed", "an unknown key"]),
        ("train --suite mini.yaml --set training.clipp=1", ["training.clipp as typed", "did you mean clip?"]),
        (
            "train --suite mini.yaml --set training.sft.step=10",
            ["dpaudit: --set training.sft.step: training.sft: expected one of private, ", "an unknown key"],
        ),
        ("train --suite mini.yaml --set trainin.private.steps=3", ["did you mean training?"]),
        (
            "train --suite mini.yaml --set training.lerning_rate=1",
            [
                "training.lerning_rate as typed",
                "mean training.private.learning_rate or training.nonprivate.learn",
            ],
        ),
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
        ("merge --out model", ["--arm", "--adapter", "got neither option; for example: dpaudit merge --arm"]),
        ("merge --out model --arm a --adapter b", ["--arm", "--adapter", "got both"]),
        ("merge --out model --adapter nowhere", ["--adapter nowhere", "adapter_config.json"]),
        ("merge --out model --arm sft-eps8", ["runs/", "expected a run"]),
    ],
)
def test_other_slips(call: Call, words: str, wanted: list[str]) -> None:
    one_line(call(*words.split()), *wanted)


def test_arms_without_pairs_and_without_schedules_are_told_at_once(call: Call) -> None:
    done = call("train", "--suite", "mini.yaml", "--dpo", "sigmoid", "--set", "data.preference=null")
    pairs, *schedules = done.err.splitlines()
    assert done.code == 2 and "data.preference: expected preference pairs" in pairs
    assert "got no value; --set data.preference=FILE, or =faults" in pairs
    assert [line.split(": ")[1] for line in schedules] == ["training.dpo_nonprivate", "training.dpo_private"]


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

    monkeypatch.setattr(run_store, "existing", refused)
    one_line(call("ls"), "p/q: expected ", "got no permission" if error.errno == 13 else "got no such file")


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
    monkeypatch.setattr(run_store, "existing", lambda runs: reading())
    done = call("ls")
    one_line(done, "a file of the run: expected ", "delete the file", "type the command again")
    assert "patient" not in done.err


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
    assert out == "" and err.splitlines()[-1] == "dpaudit: interrupted; type the same command again"
    assert "Traceback" not in err
    (run_dir,) = run_store.existing(tmp_path / "runs")
    assert {path.name for path in run_dir.path.glob("train/*")} <= {
        ".sft-inf.partial"
    }  # a checkpoint, if it came so far
    assert not list(tmp_path.glob("runs/**/.*.tmp")) and not list(tmp_path.glob("runs/.*"))


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
    assert (done.returncode, done.stderr) == (130, "dpaudit: interrupted; type the same command again\n")
