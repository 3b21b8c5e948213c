import json
import math
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.commands import again
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.evidence.guesses import Guesses
from dpaudit.findings.answers import Answered
from dpaudit.findings.membership import Bound as Proven
from dpaudit.findings.membership import Per
from dpaudit.findings.together import Together
from dpaudit.pipeline import plans, repeat, sequence
from dpaudit.privacy.claim import Unit
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Bound, Guess
from dpaudit.stages.attack import attack, scores
from dpaudit.stages.attack.scores import Score
from dpaudit.stages.audit import audit, baselines, repeats
from dpaudit.stages.audit.members import _bound, _labelled, audit_inputs
from dpaudit.stages.audit.performance import Labelled, guess_by
from dpaudit.stages.integrity import siblings
from dpaudit.stages.prepare import prepare, same_data
from dpaudit.stages.prepare.candidates import CandidateUnits, load_candidates, load_membership
from dpaudit.stats.epsilon import epsilon_lower_one_run
from dpaudit.stats.fdp import epsilon_lower_fdp_gaussian
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm, Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates as Sizes
from dpaudit.suite.suite import Data, Declared, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
EXTRACTION = ("extraction",)  # the recipe whose scores are made up here
BOUND = Bound("one-run", Guess("in", 0.1), 0.95)
LEAK = {
    "sft-inf": 8.0,
    "sft-eps8": 0.0,
    "sft-eps1": 8.0,
}  # how far members' scores lie above controls'; eps1 is broken


def plan_with(insecure_seed: int | None = None) -> Plan:
    schedule = Schedule(16, 4, 0.01)
    made = Suite(
        "audited",
        Training(schedule, schedule),
        data=Data(patients=200, heldout=4),
        candidates=Sizes(canaries=300, canary_length=12, records=60, extraction=12, extraction_length=12),
        grid=Grid((8.0, 1.0)),
    )
    return Plan(made, insecure_seed=insecure_seed)


def scored_run(place: Path, plan: Plan, leak: dict[str, float]) -> RunDir:
    """A run as stage attack leaves it, its scores drawn from two Gaussians; the stage itself has its own
    tests.
    """
    run_dir = run_store.open_or_create(plan.to_json(), plan.suite.name, place)
    declarations.keep(run_dir, plan)
    prepare.run(run_dir, plan, QUIET)
    for arm in plan.suite.grid.arms:
        train(run_dir, plan, arm)
        score(run_dir, plan, arm.name, leak[arm.name])
    return run_dir


def train(run_dir: RunDir, plan: Plan, arm: Arm) -> None:
    folder, inputs = f"train/{arm.name}", ["plan.json", "corpus/manifest.json"]
    claimed: float | str = arm.epsilon if arm.private else "inf"
    sigma = {8.0: 1.0, 1.0: 4.0, math.inf: 0.0}[arm.epsilon]
    ledger = {
        "claim": {"epsilon": claimed, "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"},
        "mechanism": {"noise_multiplier": sigma, "sampling_rate": 0.1, "steps": 4, "clip": 1.0},
        "epsilon_pld": claimed,
        "steps_done": 4,
    }
    run_dir.file(f"{folder}/adapter").mkdir(parents=True)
    run_dir.file(f"{folder}/adapter/adapter_model.safetensors").write_bytes(arm.name.encode())
    run_dir.file(f"{folder}/adapter/adapter_config.json").write_text("{}")
    run_dir.write_json(f"{folder}/privacy.json", ledger, inputs)
    run_dir.write_json(f"{folder}/train.json", {}, inputs)
    fabricate.bind(run_dir, arm.name)


def score(run_dir: RunDir, plan: Plan, arm: str, leak: float) -> None:
    coins, candidates = load_membership(run_dir), load_candidates(run_dir)
    generator = np.random.default_rng(len(arm))
    units = [(c.id, "canary") for c in candidates.canaries if c.purpose == "mia"]
    units += [(unit, "record") for unit in candidates.records]
    for made_by in recipe.load_all("mia"):
        names = [component.name for component in made_by.components()] or [made_by.signal]
        rows = [
            Score(unit, kind, name, generator.normal() + leak * coins[unit])
            for name in names
            for unit, kind in units
        ]
        if made_by.calibration == "residual":
            beside = [scores.TOKENS, *([scores.REFERENCE] if made_by.reference != "none" else [])]
            rows += [Score(unit, kind, name, generator.normal()) for name in beside for unit, kind in units]
        scores.write_scores(run_dir, plan, arm, made_by, rows)
    for made_by in recipe.load_all("extract", EXTRACTION):
        rows = []
        for canary in candidates.canaries:
            if canary.purpose == "extraction":
                place = 1 if leak and coins[canary.id] else int(generator.integers(2, 1001))
                found = {
                    "rank": place,
                    "space": 1000,
                    "exposure": math.log2(1000 / place),
                    "greedy_match": place == 1,
                }
                rows += [Score(canary.id, "canary", signal, float(value)) for signal, value in found.items()]
        scores.write_scores(run_dir, plan, arm, made_by, rows)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    plan = plan_with(insecure_seed=0)  # what is asserted of null scores must not hang on fresh coins
    run_dir = scored_run(tmp_path_factory.mktemp("audit"), plan, LEAK)
    audit.run(run_dir, plan, QUIET, "mia")
    audit.run(run_dir, plan, QUIET, "extract", recipes=EXTRACTION)
    return run_dir, plan


def primary(run_dir: RunDir, arm: str) -> dict[str, Any]:
    return run_dir.read_json(f"audit/{arm}/calibrated.json")


def answer(run_dir: RunDir, arm: str) -> Answered:
    (found,) = (a for a in Together.read(run_dir, audit.SUMMARY).answers if a.arm == arm)
    return found


def test_a_leaking_arm_is_refuted_and_a_silent_one_is_not(audited: tuple[RunDir, Plan]) -> None:
    run_dir, _ = audited
    broken, honest = primary(run_dir, "sft-eps1"), primary(run_dir, "sft-eps8")
    assert answer(run_dir, "sft-eps1").verdict == "refuted" and broken["bound"]["epsilon_lower"] > 1
    assert honest["bound"]["epsilon_lower"] < 0.5
    # 300 canaries, 150 guesses: even a perfect attacker proves far less than 8
    assert answer(run_dir, "sft-eps8").verdict == "no power" and honest["bound"]["ceiling"] < 8


def test_the_bound_is_that_of_the_frozen_rule(audited: tuple[RunDir, Plan]) -> None:
    run_dir, plan = audited
    found = primary(run_dir, "sft-inf")["bound"]
    assert (found["canaries"], found["guesses"], found["correct"]) == (300, 150, 150)
    assert (
        found["epsilon_lower"]
        == found["ceiling"]
        == epsilon_lower_one_run(
            canaries=300, guesses=150, correct=150, delta=plan.suite.training.delta, confidence=0.95
        )
    )
    assert found["notion"] == "(eps,delta)" and "25%" in found["rule"]
    beside = primary(run_dir, "sft-inf")["fdp"]
    all_right = {"canaries": 300, "guesses": 150, "correct": 150, "delta": 1e-5, "confidence": 0.95}
    assert beside["epsilon_lower"] == beside["ceiling"] == epsilon_lower_fdp_gaussian(**all_right)
    assert beside["notion"] == "f-DP/Gaussian family" and beside["ceiling"] > found["ceiling"]
    other = run_dir.read_json("audit/sft-inf/loss.json")
    assert other["fdp"] is None and len(other["canaries"]["roc"]["tpr"]) <= 3  # of the primary recipe alone


def test_curves_have_intervals_and_areas(audited: tuple[RunDir, Plan]) -> None:
    run_dir, _ = audited
    coins = load_membership(run_dir)
    for arm, leak in LEAK.items():
        found = primary(run_dir, arm)
        for kind, count in (("canaries", 300), ("records", 60)):
            one = found[kind]
            assert one["n"] == count and 0 < one["members"] < count
            assert one["auc_lower"] <= one["auc"] <= one["auc_upper"]
            assert (one["auc"] > 0.99) == (leak > 0)
            curve = one["roc"]
            assert (len(curve["tpr"]) > 3) == (kind == "canaries")  # a curve that nobody draws is not kept
            assert all(
                low <= tpr <= high
                for low, tpr, high in zip(curve["tpr_lower"], curve["tpr"], curve["tpr_upper"], strict=True)
            )
        assert found["canaries"]["members"] == sum(v for k, v in coins.items() if k.startswith("mia"))
        low = found["canaries"]["tpr_at_fpr"]
        assert (
            low["measurable"] is False and low["tpr"] is None
        )  # 1 % of 150 controls cannot be told from zero
        assert (low["tpr_on_curve"] > 0.9) == (leak > 0)


def test_the_guesses_of_the_primary_recipe_alone_answer_a_claim(audited: tuple[RunDir, Plan]) -> None:
    run_dir, plan = audited
    found = Together.read(run_dir, audit.SUMMARY)
    assert found.primary == plan.suite.primary
    assert [a.arm for a in found.answers] == ["sft-eps8", "sft-eps1"]  # what claims nothing has no answer
    assert primary(run_dir, "sft-inf")["claim"] is None
    (question,) = answer(run_dir, "sft-eps1").questions
    bound = Guesses.of_bound(Proven(**primary(run_dir, "sft-eps1")["bound"]))
    assert question.level is not None and question.p_value == bound.p_value(answer(run_dir, "sft-eps1").claim)
    assert question.epsilon_lower == bound.at(1 - question.level).lower(1e-5)


def test_a_training_without_axes_is_named_with_the_reason(audited: tuple[RunDir, Plan]) -> None:
    found = answer(audited[0], "sft-eps8")
    (unseen,) = found.unseen
    assert unseen.startswith("sft-eps8 (no canaries along axes: ") and "a fifth of them" in unseen
    assert f"not looked at from inside: {unseen}" in found.reason


def test_a_claim_beyond_the_ceiling_leaves_the_family_to_the_others(audited: tuple[RunDir, Plan]) -> None:
    """300 canaries reach 1 and not 8: one question is left, which is tested at the whole five per cent."""
    run_dir, _ = audited
    assert Together.read(run_dir, audit.SUMMARY).questions == 1
    levels = {arm: answer(run_dir, arm).questions[0].level for arm in ("sft-eps8", "sft-eps1")}
    assert levels == {"sft-eps8": None, "sft-eps1": 0.05}


def test_the_summary_keeps_the_positive_control_apart(audited: tuple[RunDir, Plan]) -> None:
    run_dir, _ = audited
    found = run_dir.read_json("audit/summary.json")
    (control,) = found["positive_control"]
    assert control["arm"] == "sft-inf" and control["weak"] is False
    assert found["composed_epsilon"] > 0 and found["composed_delta"] == 1e-5
    assert [(row["epsilon"], row["verdict"]) for row in control["claims"]] == [
        (1.0, "refuted"),
        (8.0, "no power"),
    ]
    assert {row["control"] for row in found["claims"]} == {"sft-inf"}
    assert found["family_error"] == 0.05


def test_the_blind_baseline_is_shown_and_silent(audited: tuple[RunDir, Plan]) -> None:
    run_dir, _ = audited
    found = primary(run_dir, "sft-inf")
    for blind in (found["blind"], found["records"]["blind"]):
        assert (
            blind["finding"] == "silent"
            and not blind["alarm"]
            and blind["auc_lower"] <= blind["auc"] <= blind["auc_upper"]
        )


def test_extraction_is_counted_with_upper_bounds(audited: tuple[RunDir, Plan]) -> None:
    run_dir, _ = audited
    leaked, silent = (run_dir.read_json(f"audit/{arm}/extraction.json") for arm in ("sft-inf", "sft-eps8"))
    assert (leaked["planted"], leaked["planted_found"], leaked["rank_first_planted"]) == (6, 6, 6)
    assert leaked["found_rate"] == 1.0 and leaked["found_upper"] == 1.0 and leaked["found_lower"] > 0.5
    assert (silent["planted_found"], silent["controls_found"]) == (0, 0)
    both_sided = 1 - 0.025 ** (1 / 6)  # 0 of 6 at 95 %, the same of both columns
    assert silent["controls_upper"] == silent["found_upper"] == pytest.approx(both_sided)
    assert silent["controls_lower"] == silent["found_lower"] == 0.0
    exposures = leaked["exposure"]
    assert exposures["space_bits"] == exposures["median_planted"] == pytest.approx(math.log2(1000))
    assert len(exposures["controls"]) == 6 and exposures["controls"] == sorted(exposures["controls"])


def test_nothing_written_names_a_text_a_secret_or_a_coin(audited: tuple[RunDir, Plan]) -> None:
    run_dir, _ = audited
    candidates = load_candidates(run_dir)
    named = {turn.text for c in candidates.canaries for turn in c.records[0].turns}
    named |= {c.id for c in candidates.canaries} | set(candidates.records)
    secrets = {c.secret for c in candidates.canaries}
    for file in run_dir.file("audit").rglob("*.json"):
        text = file.read_text()
        assert not any(name in text for name in named | secrets)


def test_what_is_current_is_left_alone(audited: tuple[RunDir, Plan]) -> None:
    run_dir, plan = audited
    before = {file: file.stat().st_mtime_ns for file in run_dir.file("audit").rglob("*.json")}
    audit.run(run_dir, plan, QUIET, "mia")
    audit.run(run_dir, plan, QUIET, "extract", recipes=EXTRACTION)
    assert before == {file: file.stat().st_mtime_ns for file in run_dir.file("audit").rglob("*.json")}


def test_what_an_earlier_version_wrote_is_made_again(audited: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run_dir = RunDir(shutil.copytree(audited[0].path, tmp_path / "copy"))
    files = [file.relative_to(run_dir.path).as_posix() for file in run_dir.file("audit").rglob("*.json")]
    written = {file: made for file in files if (made := run_dir.read_json(file)).get("format")}
    assert len(written) > 6
    for file, made in written.items():
        run_dir.write_json(file, {**made, "format": "earlier/0"}, run_dir.recorded_inputs(file))
    audit.run(run_dir, audited[1], QUIET, "mia")
    audit.run(run_dir, audited[1], QUIET, "extract", recipes=EXTRACTION)
    assert all(run_dir.read_json(file)["format"] == made["format"] for file, made in written.items())


def test_reproducible_noise_is_named(audited: tuple[RunDir, Plan], tmp_path: Path) -> None:
    said = audited[0].read_json("audit/summary.json")["caveat"]
    assert said == "epsilon not claimed: the noise is reproducible"
    plan = plan_with()
    run_dir = scored_run(tmp_path, plan, dict.fromkeys(LEAK, 0.0))
    audit.run(run_dir, plan, QUIET, "mia")
    assert run_dir.read_json("audit/summary.json")["caveat"] is None


def test_stale_or_missing_scores_are_refused_by_name(audited: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run_dir = RunDir(shutil.copytree(audited[0].path, tmp_path / "copy"))
    adapter = run_dir.file("train/sft-eps8/adapter/adapter_model.safetensors")
    adapter.write_bytes(b"other weights")
    with pytest.raises(
        UsageError, match=r"sft-eps8/adapter/adapter_model\.safetensors: .* got an altered file"
    ):
        audit.run(run_dir, audited[1], QUIET, "mia")
    fabricate.bind(run_dir, "sft-eps8")  # as if it had been trained again
    with pytest.raises(UsageError, match=r"sft-eps8/.*adapter_model\.safetensors.*dpaudit attack mia"):
        audit.run(run_dir, audited[1], QUIET, "mia")
    run_dir.file("attack/sft-inf/extraction.parquet").unlink()
    with pytest.raises(UsageError, match=r"extraction\.parquet.*dpaudit attack extract"):
        audit.run(run_dir, audited[1], QUIET, "extract", recipes=EXTRACTION)


def test_null_scores_prove_nothing_and_false_refutations_are_rare() -> None:
    generator = np.random.default_rng(0)
    runs, above = 2000, 0
    for _ in range(runs):
        members = generator.random(300) < 0.5
        above += guess_by(generator.normal(size=300), members, BOUND).lower(1e-5) > 0
    assert above / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def counts(scores: np.ndarray, members: np.ndarray) -> tuple[int, int]:
    made = guess_by(scores, members, BOUND)
    return made.guesses, made.correct


def test_ties_count_against_the_bound() -> None:
    members = np.arange(100) % 2 == 0
    assert counts(np.zeros(100), members) == (10, 0)
    scores = np.where(np.arange(100) < 4, 1.0, 0.0)  # two members and two controls on top, all others tied
    assert counts(scores, members) == (10, 2)
    assert counts(np.where(members, math.inf, -math.inf), members) == (10, 10)


def test_scores_that_tie_have_no_power_in_a_run(tmp_path: Path) -> None:
    """Of 30 guesses ties decide all, so that not even a model that tells everything could be refuted."""
    plan = plan_with(insecure_seed=2)
    run_dir = scored_run(tmp_path, plan, LEAK)
    made_by = next(r for r in recipe.load_all("mia") if r.name == plan.suite.primary)
    for arm in ("sft-eps1", "sft-inf"):
        rows = scores.read_scores(run_dir, arm, made_by.name)
        tied = [replace(r, value=float(r.value > 0 and r.signal == "loss")) for r in rows]
        scores.write_scores(run_dir, plan, arm, made_by, tied)
    audit.run(run_dir, plan, QUIET, "mia")
    found = primary(run_dir, "sft-eps1")
    assert found["bound"]["ceiling"] > 1 > found["bound"]["epsilon_lower"] == 0
    said = answer(run_dir, "sft-eps1")
    assert said.verdict == "no power" and "equal scores" in said.reason


def test_a_score_that_calibrates_has_its_slope_told_and_an_infinite_one_is_refused(tmp_path: Path) -> None:
    plan = plan_with(insecure_seed=2)
    run_dir = scored_run(tmp_path, plan, LEAK)
    made_by, arm = recipe.load("calibrated"), "sft-inf"
    rows = scores.read_scores(run_dir, arm, made_by.name)
    known = {(r.example, r.kind): r.value for r in rows if r.signal == scores.REFERENCE}
    moved = [
        replace(r, value=r.value + 0.6 * known[r.example, r.kind]) if r.signal == "loss" else r for r in rows
    ]
    scores.write_scores(run_dir, plan, arm, made_by, moved)
    audit.run(run_dir, plan, QUIET, "mia", arms=[arm], recipes=[made_by.name])
    slopes = primary(run_dir, arm)["slopes"]
    assert set(slopes) == {"canary", "record"}
    for kind, slope in slopes.items():
        audited, tokens, reference = (
            np.array([r.value for r in moved if r.kind == kind and r.signal == name])
            for name in ("loss", scores.TOKENS, scores.REFERENCE)
        )
        design = np.column_stack([np.ones(len(audited)), reference, tokens])
        fitted = np.linalg.solve(design.T @ design, design.T @ audited)
        assert [slope["fitted"], slope["per_token"]] == pytest.approx(fitted[1:], abs=1e-8)
        assert slope["used"] == min(max(slope["fitted"], 0.0), 1.0)
    assert run_dir.read_json(f"audit/{arm}/calibrated.json")["signal"] == "loss"
    scores.write_scores(run_dir, plan, arm, made_by, [replace(moved[0], value=-math.inf), *moved[1:]])
    with pytest.raises(UsageError, match=r"calibrated\.parquet: .* infinite for 1 examples"):
        audit.run(run_dir, plan, QUIET, "mia", arms=[arm], recipes=[made_by.name])


def test_canaries_that_occur_more_than_once_support_no_bound() -> None:
    members = np.arange(200) % 2 == 0
    once = np.arange(200) < 100
    scores = np.where(once, 0.0, members * 10.0)  # only the repeated ones leak
    found = _bound(Labelled(scores, members, once), BOUND, 1e-5)
    assert (found.canaries, found.guesses, found.epsilon_lower) == (100, 10, 0.0)


def test_two_dialogues_of_a_canary_patient_are_one_unit_of_patients_and_two_of_records(
    tmp_path: Path,
) -> None:
    plan = plan_with()
    twice = replace(plan.suite.candidates, canary_repetitions=2)
    plan = replace(plan, suite=replace(plan.suite, candidates=twice))
    run_dir = run_store.open_or_create(plan.to_json(), "twice", tmp_path)
    prepare.run(run_dir, plan, QUIET)
    rows = [Score(c.id, "canary", "loss", 0.0) for c in load_candidates(run_dir).canaries]
    assert _labelled(run_dir, "patient", rows)["canary"].once.all()
    assert not _labelled(run_dir, "record", rows)["canary"].once.any()


def test_a_recipe_changed_after_training_carries_no_verdict(
    audited: tuple[RunDir, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, plan = audited
    frozen = replace(plan, primary_digest=recipe.load("calibrated").digest)
    audit.run(run_dir, frozen, QUIET, "mia")
    own = tmp_path / "attacks" / "calibrated.yaml"
    own.parent.mkdir()
    shipped = (Path(attack.__file__).parents[3] / "attacks" / "calibrated.yaml").read_text()
    own.write_text(shipped.replace("fraction: 0.5", "fraction: 0.01"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UsageError, match=r"attacks/calibrated\.yaml: expected the recipe as it was before training"
    ):
        audit.run(run_dir, frozen, QUIET, "mia")


def test_changed_coins_are_refused(audited: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "copy")
    shutil.copytree(audited[0].path, run_dir.path)
    coins = run_dir.secret_file("coins.json")
    coins.write_text(
        coins.read_text().replace("true", "TRUE").replace("false", "true").replace("TRUE", "false")
    )
    with pytest.raises(UsageError, match=r"secret/coins\.json"):
        audit.run(run_dir, audited[1], QUIET, "mia")


def test_another_adapter_makes_the_verdict_stale(audited: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "copy")
    shutil.copytree(audited[0].path, run_dir.path)
    file, inputs = (
        audit.audit_file("sft-eps1", "calibrated"),
        [*audit_inputs("sft-eps1", "calibrated"), baselines.BLIND],
    )
    assert run_dir.is_current(file, inputs)
    run_dir.file("train/sft-eps1/adapter/adapter_model.safetensors").write_bytes(b"another")
    assert not run_dir.is_current(file, inputs)


def test_released_together_are_all_trained_arms_and_not_the_audited_alone(
    audited: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    run_dir = RunDir(tmp_path / "copy")
    shutil.copytree(audited[0].path, run_dir.path)
    together = run_dir.read_json(audit.SUMMARY)["composed_epsilon"]
    shutil.rmtree(run_dir.file("audit"))
    audit.run(run_dir, audited[1], QUIET, "mia", arms=["sft-eps1"])
    assert run_dir.read_json(audit.SUMMARY)["composed_epsilon"] == pytest.approx(together)


def test_released_together_counts_what_the_start_had_spent(
    audited: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    """Once, though every arm's ledger names it."""
    from dpaudit.privacy import accountants
    from dpaudit.privacy.mechanism import Mechanism

    run_dir = RunDir(tmp_path / "copy")
    shutil.copytree(audited[0].path, run_dir.path)
    start = {"noise_multiplier": 2.0, "sampling_rate": 0.1, "steps": 4, "clip": 1.0}
    for arm in ("sft-eps8", "sft-eps1"):
        told = run_dir.read_json(f"train/{arm}/privacy.json")
        run_dir.write_json(
            f"train/{arm}/privacy.json", told | {"stages": [start]}, ["plan.json", "corpus/manifest.json"]
        )
    audit.summarise(run_dir, audited[1], audited[1].suite.grid.arms)
    own = [Mechanism(sigma, 0.1, 4, 1.0) for sigma in (2.0, 1.0, 4.0)]
    assert run_dir.read_json(audit.SUMMARY)["composed_epsilon"] == pytest.approx(
        accountants.compose(own, 1e-5)
    )


def test_coins_that_the_texts_tell_prove_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The planted fault: a coin file that follows the names. Scores leak, and still nothing is concluded."""
    plan = plan_with(insecure_seed=1)
    run_dir = run_store.open_or_create(plan.to_json(), "broken", tmp_path)
    declarations.keep(run_dir, plan)
    prepare.run(run_dir, plan, QUIET)
    coins = load_membership(run_dir)
    for canary in load_candidates(run_dir).canaries:
        if canary.purpose == "mia":
            coins[canary.id] = canary.records[0].turns[0].text.split()[-2] < "L"  # the given name
    run_dir.write_json("secret/coins.json", {"coins": coins})
    manifest = run_dir.read_json("corpus/manifest.json")
    manifest["files"]["secret/coins.json"] = run_dir.keyed_digest("secret/coins.json")
    run_dir.write_json("corpus/manifest.json", manifest, ["plan.json"])
    for arm in plan.suite.grid.arms:
        train(run_dir, plan, arm)
        score(run_dir, plan, arm.name, LEAK[arm.name])
    audit.run(run_dir, plan, Progress(), "mia")
    found = primary(run_dir, "sft-eps1")
    assert found["blind"]["alarm"] and found["bound"]["epsilon_lower"] > 1
    summary = Together.read(run_dir, audit.SUMMARY)
    assert {said.verdict for said in summary.answers} == {"no power"}
    assert "coins are broken" in answer(run_dir, "sft-eps1").reason
    assert {claim.verdict for control in summary.positive_control for claim in control.claims} == {"no power"}
    for _ in range(2):  # typed again, it is said again
        told = capsys.readouterr().err
        assert (
            "canaries can be told apart by their texts alone" in told and told.count("coins are broken") == 1
        )
        audit.run(run_dir, plan, Progress(), "mia")
    capsys.readouterr()
    audit.run(run_dir, plan, Progress(), "extract", recipes=EXTRACTION)
    assert "coins are broken" not in capsys.readouterr().err  # those of extraction are sound


def test_near_duplicates_across_the_coin_are_counted(audited: tuple[RunDir, Plan], tmp_path: Path) -> None:
    """The clinic's short dialogues share templates, so some are nearly the same; the counts agree with the
    candidates'.
    """
    run_dir, _ = audited
    found = primary(run_dir, "sft-eps8")
    counts = found["records"]["near_duplicates"]
    assert counts["members"] + counts["nonmembers"] == 60
    assert 0 <= counts["nonmembers_in_training"] <= counts["nonmembers"] and "left_out" not in counts
    assert (counts["auc_without"] is not None) == (counts["nonmembers_in_training"] > 0)
    known = run_dir.read_json("audit/near_duplicates.json")
    assert known["records"].items() <= counts.items() and set(known["inputs"]) == {
        "plan.json",
        "corpus/manifest.json",
    }
    assert run_dir.file("secret/near_duplicates.json").stat().st_mode & 0o077 == 0
    assert found["equal_secrets"] == 0 and found["unit"] == "patient"


def test_too_few_coins_are_said_and_not_passed_over(audited: tuple[RunDir, Plan]) -> None:
    """Six secrets planted and six kept out."""
    found = audited[0].read_json("audit/sft-inf/extraction.json")
    assert found["blind"] == {
        "auc": None,
        "auc_lower": None,
        "auc_upper": None,
        "p_value": None,
        "alarm": False,
        "units": 12,
        "finding": "no baseline: too few",
    }
    assert found["near_duplicates"]["nonmembers_in_training"] == 0


def test_what_a_score_is_of_is_told(audited: tuple[RunDir, Plan]) -> None:
    run_dir, _ = audited
    found = primary(run_dir, "sft-eps8")
    sizes = [len(records) for records in load_candidates(run_dir).records.values()]
    said = {"unit": "patient", "score": "the sum over a patient's records"}
    assert found["canaries"]["per"] == said | {"records_least": 1, "records_most": 1}
    assert found["records"]["per"] == said | {"records_least": min(sizes), "records_most": max(sizes)}
    assert baselines._per("record", sizes) == Per("record")


@pytest.mark.parametrize("part", ["texts", "pairs"])
def test_what_other_methods_learn_has_its_baseline(part: str) -> None:
    """Coins that follow the texts, and coins that follow nothing."""
    rng = np.random.default_rng(0)

    def record(number: int, season: str) -> Record:
        told = f"seen in {season} with a cough, number {number}"
        if part == "texts":
            return Record(str(number), (), text=told)
        return Record(str(number), (Turn("user", "What now?"),), chosen="rest", rejected=told)

    seasons = rng.choice(["winter", "summer"], 120)
    units = {str(i): [record(i, season)] for i, season in enumerate(seasons)}
    candidates = CandidateUnits([], {}, **{"pairs": {}, "texts": {}, part: units})
    texts = baselines._texts(candidates)[part]
    fair = {name: bool(rng.random() < 0.5) for name in units}
    broken = {str(i): season == "winter" for i, season in enumerate(seasons)}
    words = [baselines._baseline(texts, coins, 0) for coins in (fair, broken)]
    assert [word.finding for word in words if word] == ["silent", "broken coins"]
    assert baselines._baseline(baselines._texts(candidates)["records"], fair, 0) is None


# ---- a run that is repeated with fresh coins


def audited_with(place: Path, plan: Plan, leak: dict[str, float]) -> RunDir:
    run_dir = scored_run(place, plan, leak)
    audit.run(run_dir, plan, QUIET, "mia", recipes=[plan.suite.primary])
    return run_dir


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, RunDir, RunDir]:
    """A first run whose arm of claim 1 is broken, a repeat that shows nothing, and another run on the same
    clinic.
    """
    place = tmp_path_factory.mktemp("repeated")
    plan = plans.renewed(plan_with(insecure_seed=0))
    claims = tuple(Declared(arm, e, 1e-5, "patient", "add_or_remove") for arm, e in CLAIMED.items())
    small = Sizes(canaries=100, canary_length=12, records=20, extraction=0)
    suite = replace(plan.suite, data=Data(patients=60, heldout=4), candidates=small, claims=claims)
    plan = replace(plan, suite=suite)
    first = audited_with(place, plan, LEAK)
    chosen = repeat.plan_of(first.name, place, None, {}, None, 1)
    second = audited_with(place, chosen, {**LEAK, "sft-eps1": 0.0})
    other = replace(plan, suite=replace(suite, name="other", grid=Grid((1.0,)), claims=()))
    third = run_store.open_or_create(other.to_json(), "other", place)
    declarations.keep(third, other)
    prepare.run(third, other, QUIET)
    for arm in other.suite.grid.arms:
        train(third, other, arm)
    return first, second, third


CLAIMED = {"sft-eps8": 8.0, "sft-eps1": 1.0}


def test_a_repeat_has_the_plan_of_the_first_run_and_coins_of_its_own(
    repeated: tuple[RunDir, RunDir, RunDir],
) -> None:
    first, second, _ = repeated
    plan, known = declarations.plan_of(second), declarations.plan_of(first)
    assert [k.run for k in plan.repeats] == [first.name] and plan.suite == known.suite
    assert plan.repeats[0].commitment == first.read_json("corpus/manifest.json")["commitment"]
    coins, before = load_membership(second), load_membership(first)
    assert coins.keys() == before.keys() and coins != before  # the same canaries and records
    typed = ["dpaudit", "train", "--repeat-of", first.name, "--insecure-seed", "1"]
    assert again.command_of(plan, first.path.parent) == shlex.join([*typed, "--runs", str(first.path.parent)])
    assert repeat.plan_of(second.name, first.path.parent, None, {}, 0, None).repeats == (
        *plan.repeats,
        repeats.repeated(second),
    )


def test_the_refuted_run_stays_refuted_and_verify_says_so(repeated: tuple[RunDir, RunDir, RunDir]) -> None:
    first, second, _ = repeated
    at = ["--runs", str(first.path.parent), "--json"]
    told = CliRunner().invoke(app, ["verify", "--run", second.name, *at])
    found = json.loads(told.stdout)
    (claim,) = [row for row in found["declared"] if row["arm"] == "sft-eps1"]
    assert told.exit_code == 1 and claim["verdict"] == "refuted"
    assert claim["reason"].startswith(f"{first.name}, which this run repeats, is refuted: from outside")
    words = {row["arm"]: (row["run"], row["verdict"], row["own_page"]) for row in found["before"]}
    assert words["sft-eps1"] == (first.name, "refuted", "refuted")
    assert CliRunner().invoke(app, ["verify", "--run", first.name, *at]).exit_code == 1


def test_runs_on_the_same_data_know_each_other(
    repeated: tuple[RunDir, RunDir, RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    """The earlier ones stand in the manifest of the later; data of another seed or file are others."""
    first, second, other = repeated
    known = {run.name: [o.name for o in siblings.on_same_data(run)] for run in repeated}
    assert all(known[run.name] == sorted({r.name for r in repeated} - {run.name}) for run in repeated)
    assert first.read_json("corpus/manifest.json")["same_data"] == []
    assert other.read_json("corpus/manifest.json")["same_data"] == sorted([first.name, second.name])
    plan = declarations.plan_of(other)
    sequence.tell_beside(other, plan, Progress())
    told = f"note: 2 other runs here have trained on the same data: {', '.join(known[other.name])}. Each is a"
    line = capsys.readouterr().err
    assert line.startswith(told) and re.search(r"have spent an epsilon of \d+\.\d+ at delta 1e-05", line)
    assert same_data.names(other, replace(plan, seed=1)) == []


def test_the_same_file_under_another_name_is_the_same_data(tmp_path: Path) -> None:
    for name, text in (("a.jsonl", "one"), ("b.jsonl", "one"), ("c.jsonl", "two")):
        (tmp_path / name).write_text(text)
    plan = plan_with()

    def of(file: str, rows: str | None = None, unit: Unit = "record") -> Plan:
        data = Data(source=str(tmp_path / file), rows=rows, heldout=4)
        training = replace(plan.suite.training, unit=unit)
        return replace(plan, suite=replace(plan.suite, data=data, training=training))

    first = of("a.jsonl", "0:10")
    run_dir = run_store.open_or_create(first.to_json(), "a", tmp_path / "runs")
    prepare.write_secrets(run_dir, {})
    run_dir.write_json("corpus/manifest.json", {"sources": prepare.source_digests(run_dir, first)})
    later = RunDir(tmp_path / "runs" / "later")
    assert same_data.names(later, of("b.jsonl")) == [run_dir.name]
    assert same_data.names(later, of("c.jsonl")) == []
    assert same_data.names(later, of("b.jsonl", "10:")) == []  # other rows, each its own unit
    assert same_data.names(later, of("b.jsonl", "9:")) == [run_dir.name]
    assert same_data.names(later, of("b.jsonl", "10:", "patient")) == [run_dir.name]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"name": "nowhere"}, "nowhere: expected one of .*, got no such run"),
        ({"changed": {"training.clip": 0.5}}, r"training\.clip: expected 1\.0, as there.*, got 0\.5"),
        ({"changed": {"grid.epsilons": [8]}}, r"grid\.epsilons: expected"),
        ({"suite": "demo"}, "--repeat-of .*: expected .*, as there"),
        ({"seed": 3}, "--seed: expected 0, the seed of .*, got 3; leave --seed out"),
        (
            {"insecure_seed": 0},
            "--insecure-seed: expected another number .*, got 0, which gives the same coins",
        ),
        ({"of": 1, "insecure_seed": 0}, "--insecure-seed: expected another number"),  # a link of the chain
        (
            {},
            "--repeat-of .*: expected the last run of its chain, got a run that .* repeats already; type --r",
        ),
        ({"of": 2}, "expected an audited arm.*, got no verdict; type `dpaudit attack mia --run other"),
    ],
)
def test_what_is_no_repeat_is_refused_and_leaves_nothing(
    repeated: tuple[RunDir, RunDir, RunDir], asked: dict[str, Any], says: str
) -> None:
    place, defaults = (
        repeated[0].path.parent,
        {"suite": None, "changed": {}, "seed": None, "insecure_seed": None},
    )
    options = {key: value for key, value in asked.items() if key not in ("name", "of")}
    name = asked.get("name", repeated[asked.get("of", 0)].name)
    before = sorted(path.name for path in place.iterdir())
    with pytest.raises(UsageError, match=says):
        repeat.plan_of(name, place, **(defaults | options))
    assert sorted(path.name for path in place.iterdir()) == before


def test_an_altered_run_is_not_repeated(repeated: tuple[RunDir, RunDir, RunDir], tmp_path: Path) -> None:
    shutil.copytree(repeated[0].path, tmp_path / repeated[0].name)
    file = tmp_path / repeated[0].name / "audit/sft-eps1/calibrated.json"
    file.write_text(file.read_text().replace('"correct": ', '"correct": 1'))
    with pytest.raises(UsageError, match="an altered file"):
        repeat.plan_of(repeated[0].name, tmp_path, None, {}, None, None)
