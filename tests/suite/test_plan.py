"""A plan survives its file, whatever suite it is of."""

import json
import math

import pytest

from dpaudit import content
from dpaudit.suite import loading
from dpaudit.suite.plan import RECORDS, Plan

SUITES = sorted(content.listing("suites"))


@pytest.mark.parametrize("name", SUITES)
def test_every_shipped_suite_loads_and_survives_its_plan(name: str) -> None:
    plan = Plan(loading.load(name), seed=3, insecure_seed=4, versions={"torch": "2.13.0"})
    text = json.dumps(plan.to_json(), allow_nan=False)
    told = json.loads(
        json.dumps(
            {key: value for record in RECORDS for key, value in plan.settings(record).items()},
            allow_nan=False,
        )
    )
    assert Plan.from_json(json.loads(text)).with_settings(told, "test") == plan
    assert plan.suite.name == name
    assert len({arm.name for arm in plan.suite.grid.arms}) == len(plan.suite.grid.arms)


def test_a_plan_keeps_infinity() -> None:
    plan = Plan(loading.load("demo", {"grid.epsilons": [math.inf, 8], "grid.baseline": False}))
    kept = Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)))
    assert kept.suite.grid.epsilons == (math.inf, 8.0)
