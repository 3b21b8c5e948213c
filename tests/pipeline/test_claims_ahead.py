"""What a run will be able to say of its claims, before anything is spent."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from typed import Call

from dpaudit.evidence import family, planned, questions
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.questions import Asked, Control, Outside
from dpaudit.evidence.verdict import share
from dpaudit.page import tables
from dpaudit.pipeline import claims_ahead
from dpaudit.pipeline.claims_ahead import FEW, NONE, OUTSIDE, UNSHOWN
from dpaudit.signals import recipe
from dpaudit.stages.prepare.jobs import jobs_of
from dpaudit.stages.train.forecast import Forecast
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan


def told(axes: int, canaries: int = 500, population: int = 3000, **more: Any) -> dict[str, dict[str, Any]]:
    changed = {"candidates.gradient": axes or "auto", "candidates.canaries": canaries, "grid.dpo": []} | more
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


def test_a_claim_that_no_control_could_show_is_told_beforehand() -> None:
    """Epsilon 4 lies below all that 500 canaries can prove; yet of 250 guesses every one had to be right."""
    row = told(axes=0)["sft-eps4"]
    assert row["ceiling"] > 4 and row["right_needed"] == row["guesses"] == 250
    assert row["finds_none"] < 0.8 and row["answer"] == FEW.format(power=share(row["finds_none"]))
    assert row["to_change"] is not None and told(axes=0)["sft-eps1"]["to_change"] is None


def test_the_ceiling_is_that_of_the_first_step_of_the_family() -> None:
    plan = Plan(loading.load("demo", {"candidates.gradient": 300, "grid.dpo": []}), 0, 0)
    level = family.first_level(planned.members(plan, axes=True))
    rows = told(axes=300)
    assert level < family.ERROR
    assert rows["sft-eps4"]["ceiling"] < told(axes=0)["sft-eps4"]["ceiling"]


@pytest.mark.parametrize("canaries", [200, 500])
def test_the_power_is_that_of_a_run_whose_guesses_are_all_right_on_the_control(canaries: int) -> None:
    plan = Plan(loading.load("demo", {"candidates.canaries": canaries, "grid.dpo": []}), 0, 0)
    rows, bound = told(axes=0, canaries=canaries), recipe.load(plan.suite.primary).bound
    assert bound is not None
    wrong = Guesses(canaries, bound.guess.count(canaries), 0, 0, False, 0.95)
    right = replace(wrong, correct=wrong.guesses, correct_at_most=wrong.guesses)
    for answer in questions.answered(
        [
            Asked(arm.name, claim, Outside(arm.name, replace(right, correct=0), Control("sft-inf", right)))
            for arm, claim in planned.claims(plan)
        ]
    ):
        (question,) = answer.questions
        assert rows[answer.arm]["finds_none"] == question.power


@pytest.mark.parametrize("canaries", [100, 500])
def test_ceilings_are_exactly_those_that_the_page_will_have(canaries: int) -> None:
    """Also where the question cannot refute the claim and is left out of the family."""
    plan = Plan(loading.load("demo", {"candidates.canaries": canaries, "grid.dpo": []}), 0, 0)
    rows, bound = told(axes=0, canaries=canaries), recipe.load(plan.suite.primary).bound
    assert bound is not None
    guesses = Guesses(canaries, bound.guess.count(canaries), 0, 0, False, 0.95)
    asked = [Asked(arm.name, claim, Outside(arm.name, guesses)) for arm, claim in planned.claims(plan)]
    found = {answer.arm: answer.questions[0] for answer in questions.answered(asked)}
    assert {question.level is None for question in found.values()} == {True, False}
    for arm, question in found.items():
        assert rows[arm]["ceiling"] == question.ceiling
        assert (rows[arm]["right_needed"] is None) == (question.level is None)


def test_a_claim_without_power_is_told_what_would_change_it() -> None:
    """What is told gives the power that it promises."""
    few = told(axes=0, canaries=100)["sft-eps4"]
    assert few["answer"] == NONE and "at least 500 units" in few["to_change"]
    count = int(re.findall(r"candidates.canaries=(\d+)", few["to_change"])[0])
    assert told(axes=0, canaries=count)["sft-eps4"]["answer"] == OUTSIDE
    assert told(axes=0, canaries=count - 100)["sft-eps4"]["answer"].startswith("no power unless")
    assert "20,000 canaries could not" in told(axes=0)["sft-eps8"]["to_change"]
    assert told(axes=300)["sft-eps4"]["to_change"] is None
    assert told(axes=0, canaries=count)["sft-eps4"]["finds_none"] >= 0.8
    alone = told(axes=0, **{"grid.baseline": False})["sft-eps1"]
    assert alone["answer"] == UNSHOWN and "an arm without noise" in alone["to_change"]
    quiet = told(axes=0, attacks=[])["sft-eps1"]
    assert quiet["answer"] == NONE and quiet["ceiling"] is None and "attacks: mia" in quiet["to_change"]


def test_a_dry_run_shows_it(call: Call) -> None:
    found = json.loads(call("run", "mini.yaml", "--dry-run", "--no-measure", "--json").out)
    assert [row["arm"] for row in found["claims_ahead"]] == ["sft-eps8"]
    shown = tables.as_text({"claims_ahead": found["claims_ahead"]}).splitlines()
    assert "right needed" in shown[0] and "what its test will find" in shown[3]
    assert max(map(len, shown)) <= 110
