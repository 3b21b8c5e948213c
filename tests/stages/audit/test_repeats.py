"""A repeat beside the run that it repeats: one family, both words, a second release, nothing laundered."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricate
import pytest
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.errors import UsageError
from dpaudit.evidence import planned
from dpaudit.evidence.guesses import Guesses
from dpaudit.findings.answers import Answered
from dpaudit.findings.membership import Bound, Membership
from dpaudit.findings.together import Together
from dpaudit.privacy import accountants, ledger
from dpaudit.stages import report
from dpaudit.stages.audit import audit, repeats
from dpaudit.stages.integrity import siblings
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Declared
from dpaudit.system.progress import Progress

ARM = "sft-eps1"  # of 60 guesses, the one question of a page that can refute its claim: level .05, then .025
NARROW, CLEAR, SILENT = 50, 58, 30  # of them right: p = .0465, .0006 and above .4
CLAIM = Declared(ARM, 1.0, 1e-5, "patient", "add_or_remove")


def plan() -> Plan:
    made = fabricate.plan_named("clinic")
    return replace(made, suite=replace(made.suite, grid=Grid((1.0,)), claims=(CLAIM,)))


def guessed(run_dir: RunDir, plan: Plan, right: int) -> None:
    """An audit in which so many of 60 guesses on the arm of claim 1 are right, and all on the control."""
    for arm in plan.suite.grid.arms:
        fabricate.audit(run_dir, plan, arm, "calibrated")
        file = f"audit/{arm.name}/calibrated.json"
        correct = {ARM: right, "sft-inf": 60}.get(arm.name, 30)
        guesses = Guesses(500, 60, correct, 60, False, 0.95)
        bound = Bound(**guesses.bound(1e-5), method="one-run", rule="a rule")
        replace(Membership.read(run_dir, file), bound=bound).write(run_dir, file, ["plan.json"])
    audit.summarise(run_dir, plan, plan.suite.grid.arms)


def first_run(runs: Path, right: int) -> tuple[RunDir, Plan]:
    run_dir, chosen = fabricate.run(runs, ("train",), plan=plan())
    guessed(run_dir, chosen, right)
    return run_dir, chosen


def repeat_of(first: RunDir, right: int) -> tuple[RunDir, Plan]:
    known = Plan.from_json(first.read_json("plan.json"))
    chain = (*known.repeats, repeats.repeated(first))
    run_dir, chosen = fabricate.run(first.path.parent, ("train",), plan=replace(plan(), repeats=chain))
    guessed(run_dir, chosen, right)
    return run_dir, chosen


def answer(run_dir: RunDir) -> Answered:
    return next(a for a in Together.read(run_dir, repeats.SUMMARY).answers if a.arm == ARM)


def page(run_dir: RunDir, plan: Plan) -> str:
    text = report.run(run_dir, plan, Progress(quiet=True)).read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_what_the_first_page_refuted_stays_refuted_in_the_larger_family(tmp_path: Path) -> None:
    """Refuted at .05 alone, not at .025 in the family of both: the repeat does not silence it."""
    first, known = first_run(tmp_path, NARROW)
    repeat, chosen = repeat_of(first, SILENT)
    found, (before,) = answer(repeat), answer(repeat).before
    assert (answer(first).verdict, answer(first).questions[0].level) == ("refuted", 0.05)
    assert (before.run, before.verdict, before.own_page) == (first.name, "refuted", "refuted")
    assert before.questions[0].level == found.questions[0].level == 0.025
    assert not before.questions[0].refutes and not found.questions[0].refutes
    assert found.verdict == "refuted" and f"{first.name}, which this run repeats, is refuted" in found.reason
    together = Together.read(repeat, repeats.SUMMARY)
    assert (together.questions, together.pages_error, together.repeats) == (2, 0.1, (first.name,))
    assert "1 question about the claims of this page is tested: if all" in page(first, known)
    said = page(repeat, chosen)
    assert "All 2 questions about the claims of this page and of the runs that it repeats are" in said
    assert "That stays: a repeat stands beside it and clears nothing." in said
    assert "This training by itself does not refute it:" in said and "Do not release" in said
    assert "refuted anywhere with a chance of at most 10.0 %" in said


def test_a_first_run_without_fault_does_not_clear_its_repeat(tmp_path: Path) -> None:
    """Both words stand side by side."""
    first, _ = first_run(tmp_path, SILENT)
    repeat, chosen = repeat_of(first, CLEAR)
    found, (before,) = answer(repeat), answer(repeat).before
    assert (found.verdict, before.verdict, before.own_page) == ("refuted", "not refuted", "not refuted")
    assert "which this run repeats" not in found.reason
    assert f"In {first.name} , which this run repeats with other coins, the same claim is not refuted" in (
        page(repeat, chosen)
    )


def test_two_runs_without_fault_are_not_refuted_and_a_chain_lists_all(tmp_path: Path) -> None:
    first, _ = first_run(tmp_path, SILENT)
    second, _ = repeat_of(first, SILENT)
    third, chosen = repeat_of(second, SILENT)
    found = answer(third)
    assert [b.run for b in found.before] == [first.name, second.name]
    assert {found.verdict, *(b.verdict for b in found.before)} == {"not refuted"}
    assert found.questions[0].level == pytest.approx(0.05 / 3)
    assert Together.read(third, repeats.SUMMARY).pages_error == pytest.approx(0.15)
    assert planned.members(chosen, axes=False) == 3 * planned.members(plan(), axes=False) > 0
    assert planned.members(chosen, axes=True) == 3 * planned.members(plan(), axes=True)
    assert siblings.repeats_of(first) == sorted([second.name, third.name])


def gone(first: RunDir) -> None:
    shutil.rmtree(first.path)


def altered(first: RunDir) -> None:
    file = first.file(f"audit/{ARM}/calibrated.json")
    file.write_text(file.read_text().replace('"correct": 50', '"correct": 30'))


def of_other_coins(first: RunDir) -> None:
    manifest = first.read_json("corpus/manifest.json")
    fabricate.rewrite(first, "corpus/manifest.json", {**manifest, "commitment": "another"})
    fabricate.rewrite(first, "custody/release.json", {"commitment": "another"})
    fabricate.bind(first)


def without_verdict(first: RunDir) -> None:
    first.file(f"audit/{ARM}/calibrated.json").unlink()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (gone, "expected the run that this one repeats.*no such folder"),
        (altered, "an altered file"),
        (of_other_coins, "expected the run that was repeated, got a run with other coins"),
        (without_verdict, f"{ARM}: expected an audited arm.*got no verdict; type `dpaudit attack mia --run"),
    ],
)
def test_a_repeat_says_nothing_without_the_run_that_it_repeats(
    tmp_path: Path, harm: Callable[[RunDir], None], says: str
) -> None:
    """Whoever deletes or changes the refuted run does not get rid of it."""
    first, _ = first_run(tmp_path, NARROW)
    repeat, chosen = repeat_of(first, SILENT)
    harm(first)
    with pytest.raises(UsageError, match=says):
        audit.together(repeat, chosen, chosen.suite.grid.arms)


def test_a_run_that_is_gone_is_named_on_the_page_of_its_repeat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = first_run(tmp_path, SILENT)
    repeat, chosen = repeat_of(first, SILENT)
    assert "is gone" not in page(repeat, chosen)
    gone(first)
    report.run(repeat, chosen, Progress())
    assert f"the run {first.name} that this run repeats, which is gone" in capsys.readouterr().err
    said = page(repeat, chosen)
    assert f"What this run repeats is gone: {first.name} ." in said
    assert f"dpaudit attack mia --run {repeat.name}" in said  # whichever run was used last


# ---- a second release


def spent(*runs: RunDir, arms: tuple[str, ...]) -> float:
    return accountants.compose([ledger.of_arm(r, arm).acting for r in runs for arm in arms], 1e-5)


def test_what_both_runs_spend_on_the_same_data_is_told_on_both_pages(tmp_path: Path) -> None:
    first, known = first_run(tmp_path, SILENT)
    assert Together.read(first, repeats.SUMMARY).beside is None and "same data" not in page(first, known)
    repeat, chosen = repeat_of(first, SILENT)
    together = Together.read(repeat, repeats.SUMMARY)
    private = tuple(arm.name for arm in chosen.suite.grid.arms if arm.private)
    assert together.beside is not None and together.beside.runs == (first.name,)
    assert together.beside.epsilon == spent(first, repeat, arms=private)
    (twice,) = [twice for twice in together.twice if twice.arm == ARM]
    assert (twice.trainings, twice.epsilon) == (2, spent(first, repeat, arms=(ARM,)))
    said = page(repeat, chosen)
    assert "Whoever has all trainings of one adapter, and no other adapter of these runs, faces:" in said
    assert "those of this run, each training once, faces ε = " in said
    assert f"Trained on the same data: {first.name} ." in said and "was trained 2 times on the same" in said
    outdated = page(first, known)  # its audit was made before the repeat
    assert f"repeated with fresh coins: {repeat.name} ." in outdated and "not composed yet" in outdated
    audit.summarise(first, known, known.suite.grid.arms)
    assert f"Trained on the same data: {repeat.name} ." in page(first, known)
    assert "not composed yet" not in page(first, known)
    listed = CliRunner().invoke(app, ["ls", "--runs", str(tmp_path), "--json"])
    caveats = {row["run"]: row["caveat"] for row in json.loads(listed.stdout)["runs"]}
    assert caveats == {
        first.name: f"repeated with fresh coins, both in one family: {repeat.name}",
        repeat.name: None,
    }
    shown = json.loads(
        CliRunner().invoke(app, ["show", repeat.name, "--runs", str(tmp_path), "--json"]).stdout
    )
    assert (shown["repeat_of"], shown["same_data"]) == ([first.name], [first.name])
    assert answer(repeat).before and repeat.is_current(
        repeats.SUMMARY, repeat.recorded_inputs(repeats.SUMMARY)
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"reproducible_noise": True}, "noise that can be drawn again"),
        (
            {"claim": {"epsilon": 1.0, "delta": 1e-5, "unit": "record", "relation": "add_or_remove"}},
            "different units",
        ),
    ],
)
def test_what_cannot_be_composed_is_told_by_name_alone(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    first, known = first_run(tmp_path, SILENT)
    file = f"train/{ARM}/privacy.json"
    fabricate.rewrite(first, file, first.read_json(file) | change)
    audit.summarise(first, known, known.suite.grid.arms)
    repeat, chosen = repeat_of(first, SILENT)
    beside = Together.read(repeat, repeats.SUMMARY).beside
    assert beside is not None and (beside.runs, beside.epsilon) == ((first.name,), None)
    assert why in (beside.unknown or "") and why in page(repeat, chosen)
