"""Two runs side by side: what differs, and what may not be compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricate
import pytest

from dpaudit.findings.answers import Answered
from dpaudit.findings.quality import Asking, TaskAsked, TasksAsked
from dpaudit.privacy.claim import Claim
from dpaudit.stages import report_diff
from dpaudit.stages.report_diff import APART, BOUNDS, OVERLAP, SAME, Row, Side, Value
from dpaudit.suite.suite import Data

ASKED = Asking("0.4", None, None, False)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Side:
    return report_diff.side(*fabricate.run(tmp_path_factory.mktemp("runs")))


def row(first: Side, second: Side, what: str, of: str) -> Row:
    return next(r for r in report_diff.figures(first, second) if (r.what, r.of) == (what, of))


def with_report(side: Side, **changed: Any) -> Side:
    return replace(side, report=replace(side.report, **changed))


def test_a_run_is_the_same_as_itself(one: Side) -> None:
    rows = report_diff.figures(_tasks(one, "a"), _tasks(one, "a"))
    assert {r.said for r in rows} == {SAME}
    assert "does not say which they are" in row(one, one, "accuracy", "base, clinic_short").said
    kinds = {"release", "verdict", "epsilon spent", "epsilon at least", "AUC on canaries"}
    kinds |= {"planted secrets extracted", "accuracy", "bits per byte", "win rate"}
    assert {r.what for r in rows} >= kinds
    assert report_diff.settings(one, one) == []


def test_settings_that_differ_are_named_by_their_keys(one: Side) -> None:
    suite = replace(one.plan.suite, data=Data(patients=77))
    other = replace(one, plan=replace(one.plan, suite=suite, seed=3))
    rows = report_diff.settings(one, other)
    assert [(r["setting"], r["second"]) for r in rows] == [("suite.data.patients", 77), ("seed", 3)]


def test_words_and_bounds_stand_side_by_side(one: Side) -> None:
    released = replace(one.report.release[1], word="not established")
    other = with_report(one, release=(one.report.release[0], released, *one.report.release[2:]))
    found = row(one, other, "release", "sft-eps8")
    assert found.first == Value("must not be released") and found.second == Value("not established")
    assert found.said == "another"
    audits = tuple(
        replace(a, bound=replace(a.bound, epsilon_lower=0.01)) if a.bound else a for a in one.report.audits
    )
    assert row(one, with_report(one, audits=audits), "epsilon at least", "sft-eps8").said == BOUNDS


def _claimed(side: Side, **changed: Any) -> Side:
    assert side.report.together is not None

    def other(answer: Answered) -> Answered:
        return replace(answer, claim=Claim(**{**vars(answer.claim), **changed}))

    answers = tuple(map(other, side.report.together.answers))
    return with_report(side, together=replace(side.report.together, answers=answers))


def test_claims_about_other_units_are_not_compared(one: Side) -> None:
    found = row(one, _claimed(one, unit="record"), "verdict", "sft-eps8, epsilon 8")
    assert found.said == "not comparable, because of other units: patient, record"
    found = row(one, _claimed(one, delta=1e-6), "verdict", "sft-eps8, epsilon 8")
    assert found.said.startswith("not comparable, because of other claims")


def _audited(side: Side, **changed: Any) -> Side:
    return with_report(side, audits=tuple(replace(a, **changed) for a in side.report.audits))


def test_guesses_about_other_units_or_by_other_recipes_are_not_compared(one: Side) -> None:
    for what in ("AUC on canaries", "epsilon at least"):
        assert row(one, _audited(one, unit="record"), what, "sft-eps8").said == (
            "not comparable, because of other units: patient, record"
        )
        said = row(one, _audited(one, recipe="loss"), what, "sft-eps8").said
        assert said == "not comparable, because of other recipes: calibrated, loss"


def test_bounds_of_other_numbers_of_canaries_are_not_compared(one: Side) -> None:
    audits = tuple(
        replace(a, bound=replace(a.bound, canaries=a.bound.canaries + 1)) if a.bound else a
        for a in one.report.audits
    )
    said = row(one, with_report(one, audits=audits), "epsilon at least", "sft-eps8").said
    assert said == "not comparable, because of other numbers of canaries: 500, 501"


def _tasks(side: Side, data: str) -> Side:
    asked = {task: TaskAsked(None, data, ASKED) for task in fabricate.TASKS}
    return replace(side, tasks=TasksAsked(asked, ()))


def test_accuracy_on_other_items_is_not_compared_and_on_the_same_by_its_intervals(one: Side) -> None:
    of = "sft-eps8, clinic_short"
    assert row(_tasks(one, "a"), _tasks(one, "b"), "accuracy", of).said == (
        "not comparable, because of other items, or asked in another way"
    )
    for gap, said in ((0.01, OVERLAP), (0.5, APART)):
        lower = tuple(
            replace(
                model,
                tasks=tuple(
                    replace(
                        task,
                        accuracy=task.accuracy - gap,
                        accuracy_lower=task.accuracy_lower - gap,
                        accuracy_upper=task.accuracy_upper - gap,
                    )
                    for task in model.tasks
                ),
            )
            for model in one.report.quality
        )
        other = with_report(_tasks(one, "a"), quality=lower)
        assert row(_tasks(one, "a"), other, "accuracy", of).said == said


def test_held_out_text_of_other_data_is_not_compared(one: Side, tmp_path: Path) -> None:
    elsewhere = replace(one, run_dir=type(one.run_dir)(tmp_path / "elsewhere"))
    elsewhere.run_dir.path.mkdir()
    assert row(one, elsewhere, "bits per byte", "base").said == SAME  # the builtin clinic, one seed
    other = replace(elsewhere, plan=replace(one.plan, seed=9))
    assert "other data, or another split" in row(one, other, "bits per byte", "base").said
    suite = replace(one.plan.suite, data=Data(source="mine.jsonl"))
    files = [replace(side, plan=replace(side.plan, suite=suite)) for side in (one, elsewhere)]
    assert "nobody knows whether the data are the same" in row(*files, "bits per byte", "base").said


def test_another_judge_and_an_adapter_of_one_run_alone_are_not_compared(one: Side) -> None:
    assert one.report.judge is not None
    other = with_report(one, judge=replace(one.report.judge, model="another"))
    assert row(one, other, "win rate", "sft-eps8 against base").said.endswith("other judges")
    fewer = with_report(one, release=one.report.release[:1])
    gone = row(one, fewer, "release", "sft-eps8")
    assert gone.second is None and gone.said == report_diff.ABSENT


def test_rows_are_json(one: Side) -> None:
    from dataclasses import asdict

    json.dumps([asdict(r) for r in report_diff.figures(one, one)], allow_nan=False)
