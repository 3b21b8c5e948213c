"""A page that is older than the results says so, by whatever command they came."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabricate
import pytest
from typer.testing import CliRunner

from dpaudit import cli
from dpaudit.commands import attack, judge, lab, outside
from dpaudit.stages import page_age, report, report_public, translated
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
KINDS = {  # command -> a result that it leaves
    "judge": "judge/summary.json",
    "judge validate": "judge/human.json",
    "eval": "evaluate/base.json",
    "attack mia": "audit/sft-eps8/calibrated.json",
    "attack extract": "audit/sft-eps1/extraction.json",
    "verify --run": "audit/claims.json",
}
ENDS = (
    lab.evaluate,
    attack.mia,
    attack.extract,
    attack.preference,
    judge.judge_validate,
    outside._verify_run,
)


def run_with(runs: Path) -> tuple[RunDir, Plan]:
    run_dir, plan = fabricate.run(runs)
    report.run(run_dir, plan, Progress(quiet=True))
    report_public.run(run_dir, plan)
    return run_dir, plan


@pytest.mark.parametrize("command", KINDS)
def test_a_result_that_is_newer_than_the_pages_is_told(command: str, tmp_path: Path) -> None:
    (run_dir, plan), file = run_with(tmp_path), KINDS[command]
    assert page_age.told(run_dir, plan) == []
    changes: dict[str, Callable[[], None]] = {
        "audit/claims.json": lambda: add_claims(run_dir),
        "judge/human.json": lambda: add_people(run_dir),
    }
    changes.get(file, lambda: change(run_dir, file))()
    page, public = page_age.told(run_dir, plan)
    assert page.startswith(f"report/index.html is older than {file}: type `dpaudit report html --run ")
    assert public.startswith(f"report/public.html is older than {file}: type `dpaudit report html --public")
    report.run(run_dir, plan, Progress(quiet=True))
    assert page_age.told(run_dir, plan) == [public]  # the page is young again, its public edition is not
    assert page_age.told(run_dir, plan, report.PAGE) == [public]


def change(run_dir: RunDir, file: str) -> None:
    """Other figures of the same inputs."""
    data = run_dir.read_json(file)
    fabricate.rewrite(run_dir, file, _less(data))


def _less(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: value if key == "inputs" else _less(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_less(value) for value in data]
    return data * 0.999 if isinstance(data, float) else data


def add_claims(run_dir: RunDir) -> None:
    run_dir.write_json(report.CLAIMS, {"format": report.ClaimsOfRun.FORMAT, "claims": []}, ["plan.json"])


def add_people(run_dir: RunDir) -> None:
    fabricate.people(run_dir)


def test_without_a_page_nothing_is_told(tmp_path: Path) -> None:
    assert page_age.told(*fabricate.run(tmp_path)) == []


def test_a_page_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    run_dir, plan = run_with(tmp_path)
    run_dir.file(report.FIGURES).write_text("{", encoding="utf-8")
    (line,) = page_age.told(run_dir, plan)
    assert line.startswith("whether the page is older than the results cannot be told: ")


@pytest.mark.parametrize("command", [*ENDS, judge._show_judged], ids=lambda command: command.__name__)
def test_every_command_that_adds_results_looks_at_the_page(command: Callable[..., Any]) -> None:
    assert "show_of_run(" in inspect.getsource(command)


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    run_dir, _ = run_with(tmp_path)
    words = ["--run", run_dir.name, "--runs", str(tmp_path), "--json"]
    assert "is older than" not in CliRunner().invoke(cli.app, ["show", *words]).stderr
    change(run_dir, "evaluate/base.json")
    done = CliRunner().invoke(cli.app, ["show", *words])
    assert done.stderr.count("report/index.html is older than evaluate/base.json") == 1
    assert f"type `dpaudit report html --run {run_dir.name}`" in done.stderr


def test_a_chinese_page_of_another_english_one_is_told(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    report.run(run_dir, plan, QUIET)
    translated.write(run_dir, report.PAGE, QUIET)
    assert page_age.told(run_dir, plan) == page_age.told(run_dir, plan, report.PAGE) == []
    change(run_dir, "evaluate/base.json")
    (line,) = page_age.told(run_dir, plan)
    assert "type `dpaudit report html --lang zh --run " in line  # writes both
    report.run(run_dir, plan, QUIET)  # in English alone
    for written in (None, report.PAGE):
        (line,) = page_age.told(run_dir, plan, written)
        assert line.startswith("report/index.zh.html is older than report/index.html: type ")
        assert "dpaudit report html --lang zh" in line
    run_dir.file(report.PAGE).unlink()
    assert len(page_age.told(run_dir, plan)) == 1  # it stands alone now
    report.run(run_dir, plan, QUIET)
    translated.write(run_dir, report.PAGE, QUIET)
    assert page_age.told(run_dir, plan) == []


def test_a_page_without_its_figures_is_told(tmp_path: Path) -> None:
    run_dir, plan = run_with(tmp_path)
    run_dir.file(report.FIGURES).unlink()
    (line,) = page_age.told(run_dir, plan)
    assert line.startswith("whether the page is older") and "report.json" in line


@pytest.mark.parametrize("page", [report.PAGE, report_public.PAGE])
@pytest.mark.parametrize("is_hash_written", [False, True])
def test_a_page_whose_command_was_killed_is_told(page: str, is_hash_written: bool, tmp_path: Path) -> None:
    """The figures and the hash of a page are written before it: what stands there is the old page."""
    run_dir, plan = run_with(tmp_path)
    kept = {file: run_dir.file(file).read_bytes() for file in (page, page_age.sidecar(page))}
    change(run_dir, "audit/sft-eps1/extraction.json")
    report.run(run_dir, plan, QUIET)
    report_public.run(run_dir, plan)
    assert page_age.told(run_dir, plan) == []
    run_dir.file(page).write_bytes(kept[page])
    if not is_hash_written:
        run_dir.file(page_age.sidecar(page)).write_bytes(kept[page_age.sidecar(page)])
    (line,) = page_age.told(run_dir, plan)
    assert line.startswith(f"{page} is older than ")
