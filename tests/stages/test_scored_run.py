"""The scorecard of a finished run: answers that are there, and the win rate of a fit judge."""

import json
from pathlib import Path

import pytest
from test_judge import QUIET, FakeJudge, always_first, knows, toy_run
from typer.testing import CliRunner, Result

from dpaudit.cli import app
from dpaudit.errors import UsageError
from dpaudit.stages import judge
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan


@pytest.fixture
def run_dir(toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path) -> tuple[RunDir, Plan]:
    rules = tmp_path / "toy.yaml"
    rules.write_text(
        f"name: toy\ntitle: Toy\nkind: likelihood\nmodel: {toy_model_dir}\ncontrols: {{count: 12, least: 7, "
        f"minimum: 0.6}}\n"
    )
    return toy_run(toy_model_dir, toy_adapter_dir, tmp_path, rules)


def typed(run: RunDir, *words: str) -> Result:
    return CliRunner().invoke(
        app, ["scorecard", "--run", run.name, "--runs", str(run.path.parent), "--json", *words]
    )


def test_every_arm_has_its_win_rate_and_its_fields(run_dir: tuple[RunDir, Plan]) -> None:
    run, plan = run_dir
    judge.run(run, plan, QUIET, judge=FakeJudge(knows))
    found = json.loads(typed(run).stdout)
    rates = {row["arm"]: row for row in found["scorecards"] if row["name"] == "win rate"}
    assert set(rates) == {"sft-inf", "sft-eps8"}
    assert rates["sft-eps8"]["value"] == 0.5 and rates["sft-eps8"]["lower"] < 0.5
    assert "against the base" in rates["sft-eps8"]["meaning"]
    doses = [row["value"] for row in found["scorecards"] if row["name"] == "doses as in the reference"]
    assert doses == [0.0, 0.0, 0.0]
    left_out = {row["arm"]: row["win_rate"] for row in found["composites"]}
    assert left_out == {
        "base": "it is what the others are compared with",
        "sft-inf": None,
        "sft-eps8": None,
    }
    assert all(row["composite"] is None and row["reason"] for row in found["composites"])
    alone = json.loads(typed(run, "--arm", "sft-eps8").stdout)
    assert {row["arm"] for row in alone["scorecards"]} == {"sft-eps8"}


def test_the_rate_is_left_out_with_its_reason(run_dir: tuple[RunDir, Plan]) -> None:
    run, plan = run_dir
    judge.run(run, plan, QUIET, judge=FakeJudge(knows))
    judge.run(run, plan.with_settings({"judging.prompts": 4}, "test"), QUIET, judge=FakeJudge(knows))
    run.file(judge.SUMMARY).unlink()

    def reasons() -> set[str]:
        found = json.loads(typed(run).stdout)
        assert not any(row["name"] == "win rate" for row in found["scorecards"])
        return {row["win_rate"] for row in found["composites"]}

    assert reasons() == {"no judge was asked"}
    run.file(judge.PASSPORT).unlink()
    judge.run(run, plan, QUIET, judge=FakeJudge(always_first))
    assert reasons() == {"the judge toy is not fit"}


def test_a_run_without_answers_is_told_what_to_type(run_dir: tuple[RunDir, Plan]) -> None:
    found = typed(run_dir[0])
    assert isinstance(found.exception, UsageError) and found.stdout == ""
    assert "dpaudit judge" in str(found.exception)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "FILE, or --run NAME"),
        (("answers.jsonl", "--run", "r"), "FILE, or --run NAME"),
        (("--run", "r", "--win", "0.5"), "--win"),
        (("answers.jsonl", "--arm", "sft-inf"), "--arm"),
    ],
)
def test_options_that_have_no_effect_are_refused(words: tuple[str, ...], told: str) -> None:
    found = CliRunner().invoke(app, ["scorecard", *words])
    assert isinstance(found.exception, UsageError) and told in str(found.exception)
