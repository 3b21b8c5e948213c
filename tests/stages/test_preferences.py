"""Preference training measured for its purpose: the stage on the toy model, and when the page warns."""

import json
from dataclasses import replace
from pathlib import Path

import fabricate
import numpy as np
import pytest

from dpaudit.data.corpus import Record, Turn
from dpaudit.findings.preferences import HeldPair, Preferences
from dpaudit.judging import preferences as judged
from dpaudit.models.encode import prompt_ids
from dpaudit.stages import evaluate, preferences
from dpaudit.stages.integrity import custody
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
LONG = "again and again " * 60
PAIRS = [
    Record(f"h{n}", (Turn("user", f"My throat hurts, day {n}."),), f"p{n // 2}", "See a doctor.", "Drink it.")
    for n in range(6)
] + [Record("long", (Turn("user", "And now?"),), "p9", LONG, "No.")]
DIALOGUE = Record("d", (Turn("user", "My throat hurts."), Turn("assistant", "Drink water.")), "p1")


@pytest.fixture(scope="module")
def measured(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    """A run of two dialogue arms and two preference arms, one of which goes on from dialogues."""
    import peft
    import torch
    import transformers

    schedule = Schedule(8, 2, 0.01)
    training = Training(schedule, schedule, dpo_private=schedule, dpo_nonprivate=schedule)
    grid = Grid((8.0,), dpo=("sigmoid",), chain=True)
    plan = Plan(Suite("toy", training, model=Model(str(toy_model_dir), 64), grid=grid))
    run_dir = RunDir(tmp_path_factory.mktemp("preferences") / "run")
    run_dir.path.mkdir()
    run_dir.file("plan.json").write_text(json.dumps(plan.to_json()))
    declarations.keep(run_dir, plan)
    run_dir.write_lines("corpus/heldout.jsonl", [DIALOGUE.to_json()])
    run_dir.write_lines(preferences.PAIRS, [pair.to_json() for pair in PAIRS])
    run_dir.write_json("corpus/manifest.json", {"files": {custody.COINS: ""}}, ["plan.json"])
    for seed, arm in enumerate(grid.arms):
        model = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
            folder = run_dir.file(f"train/{arm.name}/adapter")
            peft.get_peft_model(model, config).save_pretrained(folder, safe_serialization=True)
    fabricate.bind(run_dir)
    evaluate.run(run_dir, plan, QUIET)
    return run_dir, plan


def test_log_probabilities_are_those_of_a_direct_computation(measured: tuple[RunDir, Plan]) -> None:
    run_dir, plan = measured
    arm = "dpo-sigmoid-eps8"
    found = Preferences.read(run_dir, preferences.FILE)
    model = evaluate.load_model(run_dir, plan, [arm])
    for name in ("base", arm):
        with model.active(None if name == "base" else name):
            for pair, row in zip(PAIRS, found.pairs[name], strict=False):
                prefix = prompt_ids(pair.turns, model.tokenizer)
                for text, said in ((pair.chosen, row.chosen), (pair.rejected, row.rejected)):
                    ids = model.tokenizer(f"{text}<|end|>", add_special_tokens=False)["input_ids"]
                    alone = float(model.sequence_logprobs(prefix, [ids])[0])
                    assert said == pytest.approx(alone, abs=2e-3)


def test_arms_are_compared_with_their_start_and_with_dialogues_alone(measured: tuple[RunDir, Plan]) -> None:
    run_dir, plan = measured
    results = Preferences.read(run_dir, preferences.FILE).results
    assert [(c.arm, c.against, c.role) for c in results.compared] == [
        ("dpo-sigmoid-inf", "sft-inf", "its start"),
        ("dpo-sigmoid-eps8", "sft-eps4", "its start"),
        ("dpo-sigmoid-eps8", "sft-eps8", "fine-tuning at the same claim"),
    ]
    assert {"accuracy", "log_ratio", "chosen", "rejected", "bits_per_byte"} == {
        change.measure for change in results.compared[0].changes
    }
    assert len({(m.chosen, m.rejected) for m in results.models}) == len(results.models) == 6
    assert {(m.pairs, m.clusters, m.left_out) for m in results.models} == {(6, 3, 1)}  # one is too long
    assert results.incomparable == ()
    before = run_dir.file(preferences.FILE).stat().st_mtime_ns
    evaluate.run(run_dir, plan, QUIET)
    assert run_dir.file(preferences.FILE).stat().st_mtime_ns == before


def test_an_arm_without_dialogues_alone_at_its_claim_is_told(
    measured: tuple[RunDir, Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    _, plan = measured
    arms = {arm.name: arm for arm in plan.suite.grid.arms}
    assert preferences.incomparable(plan, list(arms.values())) == []
    found = preferences.incomparable(plan, [arm for name, arm in arms.items() if name != "sft-eps8"])
    assert [(row.arm, row.against) for row in found] == [("dpo-sigmoid-eps8", "sft-eps8")]
    preferences._tell(found, Progress())
    assert "dpo-sigmoid-eps8 has no comparison with dialogues alone" in capsys.readouterr().err
    alone = replace(plan.suite.grid, stages=(), chain=False)
    of_pairs = [arm for arm in alone.arms if arm.method == "dpo"]
    assert len(preferences.incomparable(plan, of_pairs)) == len(of_pairs) == 2


def rows(chosen: float, rejected: float, right: float, seed: int = 0) -> list[HeldPair]:
    """300 pairs of 300 patients; `right` is the share whose chosen answer is the likelier one."""
    rng = np.random.default_rng(seed)
    sides = np.where(rng.random(300) < right, 1.0, -1.0)
    middle = (chosen + rejected) / 2 + rng.normal(0, 0.5, 300)
    gap = np.abs(chosen - rejected) / 2 + rng.random(300)
    return [
        HeldPair(str(n), float(m + s * g), float(m - s * g), 9, 9, str(n))
        for n, (m, s, g) in enumerate(zip(middle, sides, gap, strict=True))
    ]


@pytest.mark.parametrize(
    ("before", "after", "warns"),
    [
        ((-7.0, -31.0, 0.977), (-8.3, -56.0, 0.983), "finds both answers less likely"),
        ((-20.0, -22.0, 0.7), (-20.0, -22.0, 0.5), "less often than its start"),
        ((-20.0, -22.0, 0.3), (-24.0, -40.0, 0.9), None),  # both fell, and it does what it is for
        ((-20.0, -22.0, 0.6), (-20.0, -22.0, 0.6), None),
    ],
)
def test_the_page_warns_of_an_arm_that_is_worse_than_its_start(
    before: tuple[float, float, float], after: tuple[float, float, float], warns: str | None
) -> None:
    ours, theirs = rows(*after, seed=1), rows(*before)
    if after == before:
        ours = [shaken(row) for row in theirs]
    found = judged.worse(judged.changes(ours, theirs, {"arm": (), "against": ()}, {}))
    assert found is None if warns is None else warns in str(found)


def shaken(row: HeldPair) -> HeldPair:
    """The same answers with a little noise that has no direction."""
    sign = 1 if int(row.id) % 2 else -1
    return row._replace(chosen=row.chosen + 0.01 * sign, rejected=row.rejected - 0.01 * sign)


def test_no_gain_at_a_cost_in_held_out_text_is_a_loss() -> None:
    pairs = rows(-20.0, -22.0, 0.6)
    changes = judged.changes([shaken(row) for row in pairs], pairs, {"arm": (), "against": ()}, {})
    bits = replace(changes[0], measure="bits_per_byte", difference=0.2, lower=0.1, upper=0.3)
    assert judged.worse([*changes, replace(bits, lower=-0.1)]) is None
    assert "held-out answers less likely" in str(judged.worse([*changes, bits]))
