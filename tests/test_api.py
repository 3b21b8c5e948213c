"""The Python surface: light to import, typed and documented, and what its worked script does is a run."""

import importlib
import logging
import runpy
import typing
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import fabricate
import pytest
import yaml
from regenerate_docs import ROOT
from test_layers import COMMAND_LINE_NEVER, HEAVY, loaded_by
from typed import MINI

import dpaudit
from dpaudit import bounds
from dpaudit.errors import Mistakes, UsageError
from dpaudit.findings.declared import ClaimOfRun
from dpaudit.findings.membership import FamilyBound, Proven
from dpaudit.findings.report import Report
from dpaudit.findings.verification import Detection, Verification
from dpaudit.observing.rows import ObservedRows
from dpaudit.suite.plan import Plan

RETURNS: dict[Any, Any] = {
    dpaudit.plan: Plan,
    dpaudit.train: dpaudit.Run,
    dpaudit.load_run: dpaudit.Run,
    dpaudit.audit: Report,
    dpaudit.evaluate: Report,
    dpaudit.judge: Report,
    dpaudit.verify: Verification,
    dpaudit.observe: tuple[ObservedRows, dpaudit.Watch],
    dpaudit.verify_observed: dpaudit.ObservedVerification,
    dpaudit.Run.report: Report,
    dpaudit.Run.write_page: Path,
    dpaudit.Run.verify: tuple[ClaimOfRun, ...],
    bounds.one_run: Proven,
    bounds.of_scores: Proven,
    bounds.gaussian_family: FamilyBound,
    bounds.p_value: float,
    bounds.power: Detection,
    bounds.many_runs: float,
}


def test_importing_it_loads_nothing_until_a_name_is_used() -> None:
    loaded = loaded_by("import dpaudit; dir(dpaudit); dpaudit.UsageError; dpaudit.Claim; dpaudit.Report")
    assert loaded.isdisjoint(COMMAND_LINE_NEVER | {"typer"})
    assert loaded_by("import dpaudit; dpaudit.plan").isdisjoint(HEAVY | {"typer"})


def test_every_public_name_is_there_and_no_other() -> None:
    assert {name for name in dpaudit.__all__ if getattr(dpaudit, name, None) is None} == set()
    assert set(dpaudit.__all__) <= set(dir(dpaudit))
    assert not hasattr(dpaudit, "trian")


@pytest.mark.parametrize("call", RETURNS, ids=lambda call: call.__qualname__)
def test_what_comes_back_is_typed_and_documented(call: Any) -> None:
    hints = typing.get_type_hints(call)
    assert hints["return"] == RETURNS[call]
    assert Any not in hints.values() and len(call.__doc__) > 60


def test_every_public_call_is_among_them() -> None:
    found = {getattr(dpaudit, name) for name in dpaudit.__all__}
    calls = {one for one in found if callable(one) and not isinstance(one, type)}
    assert calls <= RETURNS.keys()
    of_bounds = {
        value for value in vars(bounds).values() if getattr(value, "__module__", "") == bounds.__name__
    }
    assert of_bounds <= RETURNS.keys()
    assert (Path(dpaudit.__file__).parent / "py.typed").is_file()
    assert all(is_dataclass(kind) for kind in (Report, Verification, Proven, dpaudit.Run))


def test_a_plan_is_the_suite_with_what_was_given() -> None:
    made = dpaudit.plan("demo", {"grid.epsilons": [1, 4], "grid.dpo": []}, seed=3)
    assert [arm.name for arm in made.suite.grid.arms] == ["sft-inf", "sft-eps4", "sft-eps1"]
    assert made.seed == 3 and made.caveat is None
    assert "reproducible" in str(dpaudit.plan("demo", insecure_seed=1).caveat)
    with pytest.raises(UsageError, match=r"training\.unit as typed: expected .*, got"):
        dpaudit.plan("demo", {"training.unit": "person"})
    with pytest.raises(UsageError, match="no such"):
        dpaudit.plan("nosuch.yaml")


def test_a_plan_that_cannot_work_leaves_no_run(tmp_path: Path) -> None:
    """All its mistakes come at once, and the hubs are as open as they were."""
    made = dpaudit.plan("demo", {"model.base": "owner/nothing-here", "judging.rubric": "nosuch"})
    with pytest.raises(Mistakes) as refused:
        dpaudit.train(made, runs=tmp_path)
    assert len(refused.value.errors) == 2 and not list(tmp_path.iterdir())


def test_a_run_is_opened_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a run, got no run"):
        dpaudit.load_run(runs=tmp_path)
    made, plan = fabricate.run(tmp_path)
    run = dpaudit.load_run(made.name, runs=tmp_path)
    assert (run.name, run.path, run.plan) == (made.name, made.path, plan)
    report = run.report()
    assert report.run.name == run.name and {found.arm for found in report.audits} >= {"sft-eps8", "sft-inf"}
    assert not (run.path / "report").exists()  # nothing is written
    made.file("plan.json").write_text(made.file("plan.json").read_text().replace("clinic", "klinic"))
    with pytest.raises(UsageError, match=r"plan\.json: expected .*; "):
        dpaudit.load_run(runs=tmp_path)
    with pytest.raises(UsageError, match=r"plan\.json"):
        run.report()


def test_the_worked_script_makes_a_run(
    toy_model_dir: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a toy model: its lines are the findings', a second call finds all done, and without `progress` notes
    go to the log alone.
    """
    suite, script = tmp_path / "mini.yaml", runpy.run_path(str(ROOT / "docs/worked.py"))
    small = MINI | {"model": MINI["model"] | {"base": str(toy_model_dir)}, "evaluation": {"tasks": []}}
    suite.write_text(yaml.safe_dump(small))
    script["main"](tmp_path / "runs", str(suite), {})
    out, err = capfd.readouterr()
    run = dpaudit.load_run("mini", runs=tmp_path / "runs")
    (claim,) = run.verify()
    (bound,) = (found.bound for found in run.report().audits if found.arm == "sft-eps8" and found.primary)
    assert bound is not None and bound.epsilon_lower <= bound.ceiling
    assert f"sft-eps8: at least {bound.epsilon_lower:.2f}, of at most {bound.ceiling:.2f}" in out
    assert f"sft-eps8, epsilon 8: no power, {claim.reason}" in out and claim.verdict == "no power"
    assert out.endswith(f"{run.path / 'report/index.html'}\n") and f"note down {run.commitment}" in out
    assert "training" in err
    later = run.verify("sft-eps8", dpaudit.Claim(6.0, 1e-5, "patient", "add_or_remove"))
    assert [(made.claim, made.mark) for made in later] == [(6.0, "added later")]
    with caplog.at_level(logging.INFO, "dpaudit"):
        again = dpaudit.train(run.plan, runs=tmp_path / "runs")
        assert dpaudit.audit(again).together is not None and again == run
    assert capfd.readouterr() == ("", "")


def test_the_page_shows_the_worked_script() -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    assert f"```python\n{(ROOT / 'docs/worked.py').read_text(encoding='utf-8')}```" in page


def test_bounds_are_those_of_the_readme() -> None:
    """250 of 250 right guesses of 500 canaries, as the README tells, and the same from scores."""
    found = bounds.one_run(canaries=500, guesses=250, correct=250, delta=1e-5)
    assert found.epsilon_lower == pytest.approx(4.40, abs=0.005) == found.ceiling
    assert found.notion == "(eps,delta)" and found.confidence == 0.95
    scores, coins = [*range(500)], [0] * 250 + [1] * 250
    assert bounds.of_scores(scores, coins, guesses=250, delta=1e-5) == found
    at = {"canaries": 500, "guesses": 250, "delta": 1e-5}
    assert bounds.p_value(correct=250, epsilon=found.epsilon_lower, **at) == pytest.approx(0.05, rel=1e-6)
    family = bounds.gaussian_family(correct=250, **at)
    assert family.epsilon_lower is not None and family.epsilon_lower > found.epsilon_lower
    assert bounds.power(epsilon=3, **at).correct is not None
    assert bounds.power(epsilon=9, **at).correct is None  # above the ceiling


def test_bounds_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="correct <= guesses"):
        bounds.one_run(canaries=10, guesses=5, correct=6, delta=1e-5)
    with pytest.raises(ValueError, match="shape"):
        bounds.of_scores([1.0, 2.0], [1], guesses=1, delta=1e-5)
    with pytest.raises(ValueError, match="numbers"):
        bounds.of_scores([1.0, float("nan")], [1, 0], guesses=1, delta=1e-5)
    with pytest.raises(ValueError, match="guesses in"):
        bounds.of_scores([1.0, 2.0], [1, 0], guesses=3, delta=1e-5)
    tied = bounds.of_scores([1.0] * 40, [1, 0] * 20, guesses=20, delta=1e-5)
    assert (tied.correct, tied.epsilon_lower, tied.equal_scores) == (0, 0.0, True)


def test_the_module_itself_is_the_attribute() -> None:
    assert dpaudit.bounds is importlib.import_module("dpaudit.bounds")
