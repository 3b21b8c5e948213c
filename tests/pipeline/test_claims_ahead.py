"""What a run will be able to say of its claims, before anything is spent."""

import json
from typing import Any

from typed import Call

from dpaudit.evidence import family, planned
from dpaudit.page import tables
from dpaudit.pipeline import claims_ahead
from dpaudit.pipeline.claims_ahead import NONE, OUTSIDE
from dpaudit.stages.prepare.jobs import jobs_of
from dpaudit.stages.train.forecast import Forecast
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan


def told(axes: int, canaries: int = 500, population: int = 3000) -> dict[str, dict[str, Any]]:
    changed = {"candidates.gradient": axes, "candidates.canaries": canaries, "grid.dpo": []}
    plan = Plan(loading.load("demo", {**changed, "training.population": population}), 0, 0)
    jobs = jobs_of(plan, plan.suite.grid.arms, {"sft": population})
    return {row["arm"]: row for row in claims_ahead.rows(plan, Forecast(jobs, axes, []))}


def test_each_claim_is_told_what_its_test_will_find() -> None:
    rows = told(axes=300)
    assert list(rows) == ["sft-eps8", "sft-eps4", "sft-eps1"]
    assert rows["sft-eps8"]["answer"] == rows["sft-eps4"]["answer"]
    assert "half of the noise would be found" in rows["sft-eps8"]["answer"]
    for row in rows.values():
        assert row["finds_half"] <= row["finds_third"]
    assert rows["sft-eps1"]["finds_half"] < 0.8 < rows["sft-eps1"]["finds_third"]
    assert "a third of the noise" in rows["sft-eps1"]["answer"]


def test_what_will_have_no_power_is_told_before_anything_is_spent() -> None:
    """Without axes: epsilon 8 is above all that 500 canaries can prove, and with 100 so is 4."""
    rows = told(axes=0)
    assert rows["sft-eps8"]["answer"] == NONE and rows["sft-eps8"]["ceiling"] < 8
    assert rows["sft-eps1"]["answer"] == OUTSIDE and rows["sft-eps1"]["ceiling"] > 1
    assert rows["sft-eps8"]["finds_half"] is rows["sft-eps8"]["finds_third"] is None
    few = told(axes=0, canaries=100)
    assert few["sft-eps4"]["answer"] == NONE and few["sft-eps4"]["ceiling"] < 4


def test_the_ceiling_is_that_of_the_first_step_of_the_family() -> None:
    plan = Plan(loading.load("demo", {"candidates.gradient": 300, "grid.dpo": []}), 0, 0)
    level = family.first_level(planned.members(plan, axes=True))
    rows = told(axes=300)
    assert level < family.ERROR
    assert rows["sft-eps4"]["ceiling"] < told(axes=0)["sft-eps4"]["ceiling"]


def test_a_dry_run_shows_it(call: Call) -> None:
    found = json.loads(call("run", "mini.yaml", "--dry-run", "--no-measure", "--json").out)
    assert [row["arm"] for row in found["claims_ahead"]] == ["sft-eps8"]
    assert "proves at most" in tables.as_text(found)
