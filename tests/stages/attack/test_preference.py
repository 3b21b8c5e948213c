"""The attack on preference data: scores by a slow double, what separates, and arms that it is not for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import logits_of

from dpaudit.errors import UsageError
from dpaudit.models.encode import encode_pair
from dpaudit.models.hf_model import HFModel
from dpaudit.pipeline import sequence
from dpaudit.signals.text import PairChosen, PairMargin, PairRejected, PairSpan, Span
from dpaudit.stages.attack import scores
from dpaudit.stages.prepare.candidates import load_candidates, load_membership, load_training
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Lora, Model, Schedule, Suite, Training, Unit
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
RECIPES = ("pair_chosen", "pair_margin", "pair_rejected")


def span(logprob: list[float], base: list[float]) -> Span:
    values = np.array(logprob, np.float32)
    return Span(values, values, values, np.array(base, np.float32), "")


def test_the_three_signals_are_the_shifts_from_the_reference() -> None:
    pair = PairSpan(span([-1, -2], [-2, -4]), span([-5, -6, -7], [-4, -5, -5]))
    assert PairChosen()(pair) == 3 and PairRejected()(pair) == 4 and PairMargin()(pair) == 7
    assert PairMargin("mean")(pair) == pytest.approx(1.5 + 4 / 3)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    """A DPO arm of the embedded model that saw every pair about eight times, and an SFT arm of one step."""
    once, often = Schedule(8, 1, 0.001), Schedule(16, 60, 0.012)
    lora = Lora(rank=16, alpha=32)
    made = Suite(
        "preferring",
        Training(once, once, dpo_private=often, dpo_nonprivate=often, lora=lora),
        model=Model(max_length=96),
        data=Data(preference="builtin:clinic", patients=60, heldout=4),
        candidates=Candidates(
            family="portal_phrase", canaries=100, canary_length=2, records=20, extraction=0
        ),
        grid=Grid((), dpo=("sigmoid",), dpo_epsilons=(float("inf"),)),
        attacks=("preference",),
    )
    plan = Plan(made, insecure_seed=0)
    run_dir = sequence.train(plan, tmp_path_factory.mktemp("preference"), QUIET, workers=1)
    sequence.attack(run_dir, plan, QUIET, "preference")
    return run_dir, plan


def test_pairs_that_were_trained_on_stand_out(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, _ = attacked
    found = {name: run_dir.read_json(f"audit/dpo-sigmoid-inf/{name}.json") for name in RECIPES}
    assert found["pair_margin"]["canaries"]["auc_lower"] > 0.6
    assert all(one["kind"] == "preference" and one["canaries"]["n"] == 100 for one in found.values())
    assert all(one["records"]["n"] == 20 and one["blind"] is not None for one in found.values())
    assert found["pair_margin"]["bound"]["guesses"] == 40 and not found["pair_margin"]["primary"]
    assert not run_dir.file("audit/sft-inf").exists()


def test_scores_are_those_of_a_slow_double(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, plan = attacked
    candidates = load_candidates(run_dir)
    canary = candidates.canaries[3]
    unit, pairs = max(candidates.pairs.items(), key=lambda item: len(item[1]))
    model = HFModel.load(plan.suite.model.base)
    model.add_adapter("arm", run_dir.file("train/dpo-sigmoid-inf/adapter"))

    def total(ids: tuple[int, ...], mask: tuple[bool, ...]) -> float:
        with torch.no_grad():
            logp = torch.log_softmax(
                logits_of(model.model, ids).double(),
                -1,
            )
        return sum(float(logp[i - 1, ids[i]]) for i in range(1, len(ids)) if mask[i])

    def shifts(pair: object) -> list[float]:
        found = []
        for one in encode_pair(pair, model.tokenizer, 96):  # type: ignore[arg-type]
            with model.active("arm"):
                tuned = total(one.input_ids, one.answer_mask)
            with model.active(None):
                found.append(tuned - total(one.input_ids, one.answer_mask))
        return found

    for example, of in ((canary.id, [canary.pair]), (unit, pairs)):
        chosen, rejected = np.sum([shifts(pair) for pair in of], axis=0)  # a unit's pairs add up
        expected = {"pair_chosen": chosen, "pair_rejected": -rejected, "pair_margin": chosen - rejected}
        for name, value in expected.items():
            rows = scores.read_scores(run_dir, "dpo-sigmoid-inf", name)
            assert next(r.value for r in rows if r.example == example) == pytest.approx(value, abs=2e-3)


@pytest.mark.parametrize(
    ("unit", "own"), [("record", True), ("record", False), ("pair", True), ("pair", False)]
)
def test_real_pairs_have_coins_and_none_is_of_a_held_out_record(
    unit: Unit, own: bool, tmp_path: Path
) -> None:
    """Pairs of a file of their own, and those made from the dialogues, which are one unit with theirs."""
    once = Schedule(8, 1, 0.001)
    said = [(f"Fever on day {i}?", f"Take {i + 1} mg daily, then call.") for i in range(80)]
    dialogues = [{"id": f"r{i}", "prompt": ask, "response": answer} for i, (ask, answer) in enumerate(said)]
    pairs = [
        {"id": f"q{i}", "prompt": ask, "chosen": answer, "rejected": "Wait."}
        for i, (ask, answer) in enumerate(said)
    ]
    for name, rows in (("dialogues", dialogues), ("pairs", pairs)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    also_sft = unit == "record"
    made = Suite(
        "alone",
        Training(once, once, dpo_private=once, dpo_nonprivate=once, unit=unit),
        data=Data(
            str(tmp_path / "dialogues.jsonl"), str(tmp_path / "pairs.jsonl") if own else "faults", heldout=4
        ),
        candidates=Candidates(
            family="portal_phrase", canaries=100, canary_length=2, records=20, extraction=0
        ),
        grid=Grid((), dpo=("sigmoid",), dpo_epsilons=(float("inf"),), stages=("sft",) if also_sft else ()),
        attacks=("mia", "preference") if also_sft else ("preference",),
        primary="calibrated" if also_sft else "pair_margin",
    )
    plan = Plan(made, insecure_seed=0)
    run_dir = sequence.train(plan, tmp_path / "runs", QUIET, workers=1)
    for kind in made.attacks:
        sequence.attack(run_dir, plan, QUIET, kind)
    candidates, coins = load_candidates(run_dir), load_membership(run_dir)
    spoken, paired = (
        {name for name, rows in part.items() if rows} for part in (candidates.records, candidates.pairs)
    )
    assert len(paired) == 20 and not (own and paired & spoken) and (own or paired == spoken)
    assert len(spoken) == (0 if own and not also_sft else 20)
    learnt = {record.id for record in load_training(run_dir, "dpo")}
    assert {name for name in paired if coins[name]} == paired & learnt and 0 < len(paired & learnt) < 20
    assert not learnt & {row["id"] for row in run_dir.iterate_lines("corpus/heldout.jsonl")}
    found = run_dir.read_json("audit/dpo-sigmoid-inf/pair_margin.json")
    assert found["records"]["n"] == 20 and found["records"]["members"] == len(paired & learnt)
    assert found["blind"] is not None
    kinds = [row["kind"] for row in run_dir.iterate_lines("corpus/candidates.jsonl")]
    counts = run_dir.read_json("corpus/manifest.json")["counts"]
    assert counts["record"] == len(spoken | paired) == kinds.count("record")
    assert counts["certain"] == kinds.count("certain")
    if also_sft:
        assert run_dir.read_json("audit/sft-inf/calibrated.json")["records"]["n"] == 20


def test_an_arm_of_single_answers_is_refused(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, plan = attacked
    with pytest.raises(UsageError, match="sft-inf: expected a DPO arm"):
        sequence.attack(run_dir, plan, QUIET, "preference", ["sft-inf"])
    with pytest.raises(UsageError, match="--recipe loss: expected a recipe of kind preference"):
        sequence.attack(run_dir, plan, QUIET, "preference", None, ["loss"])


def test_a_run_without_dpo_arms_is_refused(attacked: tuple[RunDir, Plan], tmp_path: Path) -> None:
    _, plan = attacked
    suite = replace(plan.suite, grid=Grid(()), attacks=("mia",))
    alone = replace(plan, suite=suite)
    run_dir = sequence.train(alone, tmp_path, QUIET, workers=1)
    with pytest.raises(
        UsageError,
        match="expected a DPO arm, which learns from preference pairs",
    ):
        sequence.attack(run_dir, alone, QUIET, "preference")
    assert run_store.existing(tmp_path) and not run_dir.file("attack").exists()
