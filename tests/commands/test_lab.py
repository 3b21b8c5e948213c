"""The lab, stage by stage as it is typed, on a toy model."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import fabricate
import pytest
from typed import Call, Outcome, dialogue

from dpaudit import cli
from dpaudit.errors import UsageError
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir


@pytest.mark.parametrize(
    ("suite", "arms"),
    [
        pytest.param(
            "dpsgd-lora",
            ["sft-inf", "sft-eps3", "sft-eps1", "sft-eps0.1", "sft-eps0.01", "sft-eps0.001", "sft-eps0.0001"],
            marks=pytest.mark.slow,
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
    found = json.loads(done.out)
    rows = found["forecast"]
    assert found["takes"] == [] and re.search(
        r"^time: \S+: a hub id that was not fetched", found["not_measured"]
    )
    assert [row["arm"] for row in rows] == arms
    noise = [row["noise_multiplier"] for row in rows if row["epsilon"] != "inf"]
    assert all(value > 0.3 for value in noise)
    for row in rows:
        assert (row["noise_multiplier"] is None) == (row["epsilon"] == "inf")
        assert row["steps"] > 0 and row["memory_gib"] > 0.5
    if suite == "dpsgd-lora":
        assert noise == sorted(noise)  # a smaller claim needs more
    assert sorted(path.name for path in Path().iterdir()) == ["mini.yaml"]


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
    r".*|canaries along axes.*|near-duplicates: .*|report: .*|not on the page: .*|commitment.*|note.*|"
    r"report/index.html is older than .*, which writes it again|"
    r"blind baseline: .*|warning: clinic_choice: .*stand in the training text; .*"
)


@pytest.mark.slow
def test_a_run_and_its_repeat_as_they_are_typed(call: Call) -> None:
    """Trained, audited, trained again with fresh coins: both stand in one family on one page."""
    first = json.loads(call("train", "--suite", "mini.yaml", "--json").out)["run"]
    early = call("train", "--repeat-of", first)
    assert early.code == 2 and f"type `dpaudit attack mia --run {first}`" in early.err
    assert call("attack", "mia", "--recipe", "calibrated").code == 0
    ahead = call("train", "--repeat-of", first, "--dry-run", "--no-measure").err
    assert f"this run repeats {first} with fresh coins: a second release" in ahead
    assert "they have spent an epsilon of" in ahead and "will have spent an epsilon of about" in ahead
    again = call("train", "--repeat-of", first, "--json")
    assert f"this run repeats {first} with fresh coins: a second release" in again.err
    second = json.loads(again.out)["run"]
    assert second != first and f"trained on the same data: {first}. Each is a release of its own" in again.err
    assert json.loads(call("train", "--repeat-of", first, "--json").out)["run"] == second  # goes on with it
    told = call("attack", "mia", "--recipe", "calibrated", "--json")
    assert f"this run repeats {first} with fresh coins" in told.err
    attacked = json.loads(told.out)
    assert attacked["run"] == second and [row["run"] for row in attacked["before"]] == [first]
    page = Path(json.loads(call("report", "html", "--json").out)["page"]).read_text(encoding="utf-8")
    assert f"This run repeats <code>{first}</code> with fresh coins." in page
    assert "faces ε = " in page and "was trained <data" in page
    other = call("train", "--repeat-of", first, "--eps", "4")
    assert other.code == 2 and "grid.epsilons: expected" in other.err and other.err.count("\n") == 1
    assert len(list(Path("runs").glob("mini-*"))) == 2


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
    assert {row["said"][:11] for row in measured["compared"]} <= {"cannot tell", "worse, by m", "no worse th"}
    assert {(row["arm"], row["against"]) for row in measured["compared"]} >= {("sft-eps8", "sft-inf")}
    page = Path(json.loads(told("report", "html", "--json").out)["page"])
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    made_again = told("report", "verify", "--json")
    assert made_again.code == 0, made_again.out[:600]
    assert {"audit/summary.json", "evaluate/summary.json"} < set(json.loads(made_again.out)["recomputed"])
    again = told("run", "mini.yaml", "--insecure-seed", "5")
    assert again.code == 0 and str(page) in again.out and not re.search(r"^training", again.err, re.M)
    assert found["caveat"] in again.out.splitlines()
    listed = json.loads(told("ls", "--json").out)["runs"]
    assert [(row["arms"], row["verdicts"]) for row in listed] == [("2/2", {"sft-eps8": "no power"})]
    assert listed[0]["stages"] == ["prepare", "train", "attack", "eval", "report"]
    assert told("run", "mini.yaml", "--insecure-seed", "5", "--check").code == 4  # no power
    without = call("run", "mini.yaml", "--check", "--set", "grid.epsilons=[]", "--dry-run")
    assert without.code == 2 and "--check: expected a private arm, or a claim of the suite" in without.err
    shown = told("show").out
    assert "sft-eps8" in shown and "stale" not in shown and str(page) in shown
    assert "{" not in shown and "to go on type" not in shown
    named = told("show", "--adapter", str(page.parents[1] / "train" / "sft-eps8")).out
    assert re.search(r"^run +arm +claimed epsilon", named, re.M) and "{" not in named and "custody" in named
    Path("my.yaml").write_text(Path("mini.yaml").read_text())  # a copy, whose `name:` is the original's
    ahead = told("train", "--suite", "my.yaml", "--eps", "2", "--dry-run", "--no-measure").err
    assert "note: the run is called mini, as `name:` in my.yaml says" in ahead
    assert f"1 other run here has trained on the same data: {found['run']}." in ahead
    assert "called mini" not in again.err and "same data" not in again.err
    assert [line for line in said if not OUR_LINES.fullmatch(line)] == []

    _merges_an_arm(call)


@pytest.mark.parametrize(
    ("verdicts", "is_fit", "code"),
    [
        (["not refuted", "not refuted"], True, 0),
        (["not refuted", "no power"], True, 4),
        (["refuted", "no power"], False, 1),
        (["not refuted"], False, 4),
        (["not refuted"], None, 0),  # the suite asks no judge
    ],
)
def test_a_checked_run_ends_with_its_worst_answer(
    verdicts: list[str], is_fit: bool | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from types import SimpleNamespace

    from dpaudit.commands import lab
    from dpaudit.findings.judgement import Judgement
    from dpaudit.stages import declared

    claims = [SimpleNamespace(verdict=verdict) for verdict in verdicts]
    monkeypatch.setattr(declared, "verdicts", lambda run_dir, plan: claims)
    monkeypatch.setattr(Judgement, "read", lambda run_dir, name: SimpleNamespace(fit=is_fit))
    plan = SimpleNamespace(suite=SimpleNamespace(judging=None if is_fit is None else object()))
    assert lab._checked(RunDir(tmp_path), plan) == code


def _merges_an_arm(call: Call) -> None:
    """The arm becomes a model whose ledger is checked; what cannot be merged is told in one line and leaves
    nothing.
    """
    from dpaudit.privacy import beside

    words = ("merge", "--arm", "sft-eps8", "--out", "model", "--ledger", "full", "--json")
    told = json.loads(call(*words).out)
    assert told["model"] == "model" and told["caveat"] == "epsilon not claimed: the noise is reproducible"
    found = beside.find(Path("model"))
    assert found is not None and found.epsilon <= 8 and found.data["merged_from"]["arm"] == "sft-eps8"
    again = call("merge", "--arm", "sft-eps8", "--out", "model")
    assert again.code == 2 and "--out model: expected a folder that does not exist yet" in again.err
    unknown = call("merge", "--arm", "sft-eps3", "--out", "other")
    assert unknown.code == 2 and "--arm sft-eps3: expected one of sft-inf, sft-eps8" in unknown.err
    spoilt = Path("model/privacy.json")
    spoilt.write_text(spoilt.read_text().replace('"steps": 2', '"steps": 1'))
    with pytest.raises(UsageError, match="an edited or exchanged ledger"):
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
    (run_dir,) = run_store.existing(Path("runs"))
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
    (run_dir,) = run_store.existing(Path("runs"))
    page = run_dir.file("report/index.html").read_text(encoding="utf-8")
    assert "<strong>clinic_choice</strong> was skipped" in page and not re.search(r"\bdemo\b", page)
    assert "type <code>dpaudit eval</code>" not in page


@pytest.mark.slow
def test_two_trainers_of_one_run(call: Call, tmp_path: Path) -> None:
    """With folders for temporary files of their own, as two containers have: the second is refused, the first
    goes on.
    """
    words = ["train", "--suite", "mini.yaml", "--no-baseline", "--insecure-seed", "5", "--workers", "1"]
    assert call(*words, "--runs", "alone").code == 0
    [alone] = run_store.existing(tmp_path / "alone")
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
        [run_dir] = run_store.existing(tmp_path / "runs")
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
    (run_dir,) = run_store.existing(tmp_path / "runs")
    assert run_dir.file("report/index.html").is_file()
    for arm in ("sft-inf", "sft-eps8", "sft-eps4", "sft-eps1"):
        assert all(arm in result.stdout for result in done[:2])
