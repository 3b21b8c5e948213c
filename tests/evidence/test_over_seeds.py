from collections.abc import Iterator
from dataclasses import replace

import fabricate
import pytest

from dpaudit.commands import outcomes
from dpaudit.evidence.over_seeds import over_seeds
from dpaudit.findings.membership import Membership
from dpaudit.findings.together import Together
from dpaudit.stats.pooled import Run, epsilon_ceiling_pooled, epsilon_lower_pooled
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm, Grid

Audits = dict[Arm, Membership]
SETTINGS = {"delta": 1e-5, "confidence": 0.95}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    """A made-up run of three seeds, of which one leaks more than the others."""
    place, plan = tmp_path_factory.mktemp("runs"), fabricate.plan_named("seeds")
    three = replace(plan, suite=replace(plan.suite, grid=Grid((8.0,), seeds=3)))
    with pytest.MonkeyPatch.context() as patch:
        for arm in three.suite.grid.arms:
            gap, *rest = fabricate.WORLD[replace(arm, seed=0).name]
            patch.setitem(fabricate.WORLD, arm.name, (gap + 3.0 * (arm.seed == 2), *rest))
        yield fabricate.run(place, ("train", "audit"), plan=three)[0]


@pytest.fixture(scope="module")
def audits(run_dir: RunDir) -> Audits:
    arms = Grid((8.0,), seeds=3).arms
    return {arm: Membership.read(run_dir, f"audit/{arm.name}/calibrated.json") for arm in arms}


def test_each_kind_of_training_has_one_bound_over_its_seeds(run_dir: RunDir, audits: Audits) -> None:
    found = Together.read(run_dir, "audit/summary.json")
    assert found.over_seeds == over_seeds(audits)
    _, kind = found.over_seeds
    assert kind.arms == ("sft-eps8", "sft-eps8-s1", "sft-eps8-s2") and kind.epsilon == 8.0
    bounds = [bound for arm, audit in audits.items() if arm.private and (bound := audit.bound)]
    runs = [Run(bound.canaries, bound.guesses, bound.correct) for bound in bounds]
    assert kind.epsilon_lower == epsilon_lower_pooled(runs=runs, **SETTINGS)
    assert kind.ceiling == epsilon_ceiling_pooled(runs=runs, **SETTINGS)
    assert kind.own_least < kind.epsilon_lower < kind.own_most == bounds[2].epsilon_lower
    row = outcomes.seeds_rows(run_dir)[1]
    assert row["epsilon_lower"] == kind.epsilon_lower and row["note"] is None


def test_the_answers_are_those_of_each_adapter(run_dir: RunDir, audits: Audits) -> None:
    answers = Together.read(run_dir, "audit/summary.json").answers
    assert [answer.arm for answer in answers] == [arm.name for arm in audits if arm.private]
    assert {len(answer.questions) for answer in answers} == {1}


def test_fewer_than_three_seeds_say_nothing_of_the_method(audits: Audits) -> None:
    two = over_seeds({arm: audit for arm, audit in audits.items() if arm.seed < 2})
    assert {(kind.epsilon_lower, kind.ceiling) for kind in two} == {(None, None)}
    assert two[0].note == "a statement about a method needs 3 seeds; audited: 2"
    assert over_seeds({arm: audit for arm, audit in audits.items() if arm.seed == 0}) == ()


def test_broken_coins_prove_nothing_of_a_method(audits: Audits) -> None:
    alarm = replace(fabricate.BLIND, alarm=True)
    kinds = over_seeds({arm: replace(audit, blind=alarm) for arm, audit in audits.items()})
    assert all(kind.epsilon_lower is None and kind.note for kind in kinds)
