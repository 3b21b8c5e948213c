"""Stage prepare: fair coins kept apart, half the extraction canaries planted, changes noticed, nothing half-made."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dpaudit import rundir, suite
from dpaudit.errors import UsageError
from dpaudit.progress import Progress
from dpaudit.rundir import RunDir
from dpaudit.stages import prepare
from dpaudit.suite import Plan

QUIET = Progress(quiet=True)


def make_plan(insecure_seed: int | None = 0, seed: int = 0, **changes: Any) -> Plan:
    small = {"data.patients": 60, "data.heldout": 5, "candidates.canaries": 40, "candidates.records": 20,
             "candidates.extraction": 10}  # fmt: skip
    return Plan(suite.load("demo", {**small, **changes}), seed, insecure_seed)


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., tuple[RunDir, Plan]]:
    def make(**options: Any) -> tuple[RunDir, Plan]:
        plan = make_plan(**options)
        run_dir = rundir.open_or_create(plan.to_json(), "demo", tmp_path / "runs")
        prepare.run(run_dir, plan, QUIET)
        return run_dir, plan

    return make


def test_attackers_see_every_candidate_and_no_coin(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, _ = prepared()
    seen = prepare.load_candidates(run_dir)
    purposes = [c.purpose for c in seen.canaries]
    assert purposes.count("mia") == 40 and purposes.count("extraction") == 10 and len(seen.records) == 20
    public = (
        run_dir.file("corpus/candidates.jsonl").read_text() + run_dir.file("corpus/manifest.json").read_text()
    )
    assert "included" not in public and "member" not in public
    assert run_dir.file("secret").stat().st_mode & 0o777 == 0o700


def test_training_gets_the_certain_and_the_included_alone(
    prepared: Callable[..., tuple[RunDir, Plan]],
) -> None:
    run_dir, _ = prepared()
    coins, kept = prepare.load_membership(run_dir), prepare.load_training(run_dir, "sft")
    patients = {record.patient for record in kept}
    assert all((name in patients) == included for name, included in coins.items())
    certain = sum(row["kind"] == "certain" for row in run_dir.read_lines("corpus/candidates.jsonl"))
    assert len(patients) == certain + sum(coins.values())
    pairs = list(prepare.load_training(run_dir, "dpo"))
    assert {p.patient for p in pairs} == patients and all(p.is_pair for p in pairs)


def test_half_of_the_extraction_canaries_is_planted(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, _ = prepared()
    coins = prepare.load_membership(run_dir)
    assert sum(included for name, included in coins.items() if name.startswith("extraction")) == 5


def test_coins_are_fair_and_independent() -> None:
    """500 coins a seed over 20 seeds: count and lag-one agreement within 4 standard errors (false alarm 1e-4)."""
    heads = agreements = total = 0
    for seed in range(20):
        plan = make_plan(
            insecure_seed=seed,
            **{"candidates.records": 0, "candidates.extraction": 0, "candidates.canaries": 500},
        )
        coins = list(prepare.draw(plan, prepare.load_corpus(plan))[1].values())
        heads, total = heads + sum(coins), total + len(coins)
        agreements += sum(a == b for a, b in pairwise(coins))
    error = 4 * math.sqrt(total) / 2
    assert abs(heads - total / 2) < error and abs(agreements - (total - 20) / 2) < error


def test_coins_come_from_the_system_unless_a_seed_is_insecure() -> None:
    draws = [
        prepare.draw(make_plan(insecure_seed=s), prepare.load_corpus(make_plan()))[1]
        for s in (None, None, 7, 7)
    ]
    assert draws[0] != draws[1] and draws[2] == draws[3]


def test_the_population_does_not_tell_the_coins(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    units = {prepared(insecure_seed=s)[0].read_json("corpus/manifest.json")["units"] for s in range(3)}
    assert len(units) == 1


def test_a_second_call_changes_nothing(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, plan = prepared(insecure_seed=None)
    before = run_dir.file("secret/coins.json").read_bytes()
    prepare.run(run_dir, plan, QUIET)
    assert run_dir.file("secret/coins.json").read_bytes() == before


@pytest.mark.parametrize("name", ["corpus/candidates.jsonl", "secret/coins.json"])
def test_a_changed_file_is_refused_by_name(prepared: Callable[..., tuple[RunDir, Plan]], name: str) -> None:
    run_dir, plan = prepared()
    path = run_dir.file(name)
    path.write_text(path.read_text() + " ")
    with pytest.raises(UsageError, match=name):
        prepare.run(run_dir, plan, QUIET)


def dialogues(path: Path, count: int, **extra: str) -> Path:
    rows = (
        {"conversations": [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": f"a{i}"}], **extra}
        for i in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_is_split_by_unit_and_watched(
    tmp_path: Path, prepared: Callable[..., tuple[RunDir, Plan]]
) -> None:
    data = dialogues(tmp_path / "data.jsonl", 100)
    options = {
        "data.source": str(data),
        "data.preference": None,
        "training.unit": "record",
        "grid.dpo": [],
        "candidates.canary_repetitions": 1,
    }
    run_dir, plan = prepared(**options)
    held = {row["id"] for row in run_dir.read_lines("corpus/heldout.jsonl")}
    assert len(held) == 5 and not held & {r.id for r in prepare.load_training(run_dir, "sft")}
    dialogues(data, 101)
    with pytest.raises(UsageError, match=r"data\.jsonl"):
        prepare.run(run_dir, plan, QUIET)


def test_unit_patient_needs_patients_in_the_data(tmp_path: Path) -> None:
    data = dialogues(tmp_path / "data.jsonl", 50)
    plan = make_plan(**{"data.source": str(data), "data.preference": None, "grid.dpo": []})
    with pytest.raises(UsageError, match="patient_id"):
        prepare.load_corpus(plan)
