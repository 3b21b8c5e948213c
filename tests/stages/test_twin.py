"""The twin of the non-private arm: it sees no canary, its quality counts, and nothing else of it does."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dpaudit.commands import outcomes, states
from dpaudit.commands.asked import Asked
from dpaudit.errors import UsageError
from dpaudit.judging import quality
from dpaudit.pipeline import sequence
from dpaudit.stages import evaluate, judge, report
from dpaudit.stages.attack import attack
from dpaudit.stages.prepare.candidates import load_candidates, load_training
from dpaudit.stages.train import forecast
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import grid, loading, suite
from dpaudit.suite.grid import Arm, Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
STEPS = Schedule(batch=8, steps=2, learning_rate=0.01)
INF = Arm("sft", "sft", math.inf)
TWIN = replace(INF, twin=True)


@pytest.fixture(scope="module")
def finished(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    chosen = Suite(
        name="toy",
        training=Training(STEPS, STEPS, clip=0.5, micro_batch=16, lora=Lora(rank=2)),
        model=Model(str(toy_model_dir), max_length=80),
        data=Data(patients=24, heldout=4),
        candidates=Candidates(canaries=6, records=4, extraction=4, extraction_repetitions=2),
        grid=Grid(epsilons=(4.0,), twin=True),
        attacks=(),
        judging=None,
    )
    plan = Plan(chosen, seed=3)
    run_dir = sequence.train(
        plan, tmp_path_factory.mktemp("runs"), QUIET, ["sft-inf", "sft-inf-twin"], workers=1
    )
    evaluate.run(run_dir, plan, QUIET)
    return run_dir, plan


def test_it_stands_behind_its_arm_and_plans_keep_it() -> None:
    plan = Plan(loading.load("demo", {"grid.twin": True, "grid.seeds": 2}))
    names = [arm.name for arm in plan.suite.grid.arms if not arm.private and arm.method == "sft"]
    assert names == ["sft-inf", "sft-inf-twin", "sft-inf-s1", "sft-inf-s1-twin"]
    assert Plan.from_json(plan.to_json()).suite.grid == plan.suite.grid
    assert loading.load("demo", Asked(twin=True).overrides()).grid.twin


def test_plans_of_before_have_none() -> None:
    old = Plan(loading.load("demo")).to_json()
    del old["suite"]["grid"]["twin"], old["suite"]["candidates"]["temperature"]
    assert Plan.from_json(old) == Plan.from_json(Plan(loading.load("demo")).to_json())
    assert not any(arm.twin for arm in Plan.from_json(old).suite.grid.arms)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"grid.baseline": False, "grid.dpo": []}, "grid.twin: expected a non-private SFT arm"),
        ({"grid.stages": ["cpt"], "grid.chain": False}, "grid.twin: expected a non-private SFT arm"),
        ({"grid.stages": ["cpt", "sft"]}, "grid.twin: expected an arm that starts at the base"),
        (
            {
                "claims": [
                    {
                        "arm": "sft-inf-twin",
                        "epsilon": 8,
                        "delta": 1e-5,
                        "unit": "patient",
                        "relation": "add_or_remove",
                    }
                ]
            },
            "claims: expected one of the arms sft-inf, .*, got 'sft-inf-twin'",
        ),
    ],
)
def test_where_it_means_nothing_it_is_refused(changed: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        loading.load("demo", {"grid.twin": True, **changed})


def test_it_is_the_reference_of_its_arm_alone_and_nobodys_control() -> None:
    eight, four, one = (Arm("sft", "sft", epsilon) for epsilon in (8.0, 4.0, 1.0))
    arms = [TWIN, INF, eight, four, one]
    assert grid.nonprivate(eight, arms) == INF and grid.nonprivate(eight, [TWIN, eight]) is None
    assert quality.references(arms) == [("sft-inf", "sft-inf-twin"), *quality.references(arms[1:])]
    assert quality.ladders(arms) == [["sft-inf", "sft-eps8", "sft-eps4", "sft-eps1"]]


def test_it_is_trained_on_less_and_evaluated_in_pairs(finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished
    whole, twin = (run_dir.read_json(f"train/{arm.name}/privacy.json") for arm in (INF, TWIN))
    counts = run_dir.read_json("corpus/manifest.json")["counts"]
    canaries = (counts["mia"] + counts["extraction"]) // 2
    assert twin["population"] == whole["population"] - canaries == counts["certain"] + counts["record"] // 2
    assert twin["arm"]["twin"] is True and "twin" not in whole["arm"]
    pairs = run_dir.read_json("evaluate/summary.json")["pairs"]
    assert {(p["arm"], p["against"]) for p in pairs} == {("sft-inf", "sft-inf-twin"), ("sft-inf", "base")}
    assert not list(run_dir.path.glob("units-*"))


def test_the_forecast_counts_its_units(finished: tuple[RunDir, Plan]) -> None:
    run_dir, plan = finished
    rows = {row["arm"]: row for row in forecast.rows(plan, QUIET)}
    told = run_dir.read_json("train/sft-inf-twin/privacy.json")
    assert rows["sft-inf-twin"]["sampling_rate"] == pytest.approx(told["mechanism"]["sampling_rate"])


def test_attacks_and_judge_leave_it_out(finished: tuple[RunDir, Plan]) -> None:
    run_dir, plan = finished
    assert attack.trained_arms(run_dir, plan, QUIET) == [INF]
    with pytest.raises(
        UsageError, match="expected one of sft-inf, sft-eps4, got a twin, which saw no canary"
    ):
        attack.trained_arms(run_dir, plan, QUIET, ["sft-inf-twin"])
    judged = replace(plan, suite=replace(plan.suite, judging=suite.Judging(rubric="local_short")))
    assert judge.require_ready(run_dir, judged) == [INF]


def test_the_page_holds_what_canaries_cost(finished: tuple[RunDir, Plan]) -> None:
    run_dir, plan = finished
    html = report.run(run_dir, plan, QUIET).read_text(encoding="utf-8")
    found = run_dir.read_json("report/report.json")
    assert [arm["arm"] for arm in found["arms"]] == ["sft-inf"]
    assert all("sft-inf-twin" not in stage["absent"] for stage in found["stages"].values())
    assert "Against the adapter that saw no canary" in html
    assert {row["arm"] for row in outcomes.quality_rows(run_dir, plan)} == {"base", "sft-inf", "sft-inf-twin"}
    attacked = replace(plan, suite=replace(plan.suite, attacks=("mia",), grid=Grid((), twin=True)))
    run_dir.write_json("audit/sft-inf/calibrated.json", {})
    assert states.stage_states(run_dir, attacked)["attack"] == "done"
    run_dir.file("audit/sft-inf/calibrated.json").unlink()


def test_no_canary_is_among_its_records(finished: tuple[RunDir, Plan]) -> None:
    run_dir, _ = finished
    names = {record.patient for record in load_training(run_dir, "sft", twin=True)}
    assert names and not names & {c.id for c in load_candidates(run_dir).canaries}
