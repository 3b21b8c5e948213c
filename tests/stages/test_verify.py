"""`dpaudit verify` on models that a stranger's script trained: every exit code, adapters, merged models."""

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from regenerate_docs import ROOT
from strangers import (
    CLAIM,
    check,
    found_in,
    trained,
)
from test_plant import planted

from dpaudit import schema
from dpaudit.errors import UsageError
from dpaudit.findings.baselines import Blind
from dpaudit.findings.verification import Verification
from dpaudit.page import chinese, render
from dpaudit.planting import audit_key, reach
from dpaudit.stages import verify, verify_verdicts
from dpaudit.system.progress import Progress


def test_the_stranger_knows_nothing_of_us() -> None:
    text = (ROOT / "benchmarks" / "stranger.py").read_text()
    assert not re.search(r"^\s*(import|from)\s+dpaudit", text, re.MULTILINE)


def test_a_false_claim_is_refuted(world: Path, tmp_path: Path) -> None:
    done = check(
        "--adapter",
        world / "adapter",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--data",
        world / "planted.jsonl",
        "--out",
        tmp_path,
        "--json",
    )
    assert done.exit_code == 1, done.output
    found = found_in(tmp_path)
    assert found["verdict"] == "refuted"
    assert 0.5 < found["bound"]["epsilon_lower"] <= found["bound"]["ceiling"]
    assert found["rule"]["recipe"] == "calibrated" and found["bound"]["guesses"] == 50
    assert {row["recipe"] for row in found["recipes"]} == {
        "difference",
        "loss",
        "min_k",
        "min_k_pp",
        "total_loss",
        "window_comparison",
        "zlib",
    }
    page = (tmp_path / "index.html").read_text()
    for words in (
        "</code> (window-based comparison)",
        "presumes that the model was trained on this file and that nobody filtered canaries out",
        "“refuted” presumes nothing",
        "Ceiling",
        "(eps,delta)",
        "f-DP/Gaussian family",
        "95 %",
        "Blind baseline",
        "Visibility: a text classifier",
    ):
        assert words in page
    assert chinese.page(page).english == 0
    assert "default-src 'none'" in page and not re.search(r"(src|href)=.https?:", page)
    assert ("lost to equal scores" in page) == any(row["tied"] for row in found["recipes"])
    tied = {"correct": 0, "tied": 40}  # 0 right of 40 without a word would look like a fault
    whole = json.loads((tmp_path / "verification.json").read_text())
    whole["models"][0]["recipes"][0] |= tied
    del whole["format"]
    told = render.render_verification(schema.build(Verification, whole, file="verification.json"))
    assert "lost to equal scores)" in told and "such guesses count as wrong" in told


def test_nothing_that_is_written_holds_a_secret(world: Path, tmp_path: Path) -> None:
    check("--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM, "--out", tmp_path)
    key = audit_key.load(world / "key.json")
    for file in (tmp_path / "verification.json", tmp_path / "index.html"):
        text = file.read_text()
        assert len(text) > 2000
        for canary in key.canaries:
            assert canary.secret not in text and canary.record.turns[0].text not in text
        assert key.hash_key not in text and 'coins":' not in text


def test_a_model_that_saw_no_canary_is_not_refuted_and_its_power_is_unknown(
    world: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    done = check(
        "--adapter",
        toy_adapter_dir,
        "--key",
        world / "key.json",
        "--claim",
        CLAIM.replace("0.5", "2"),
        "--out",
        tmp_path,
    )
    assert done.exit_code == 4, done.output
    words = " ".join(done.output.split())
    assert "to get power: give an adapter that was trained on the same planted file" in words
    assert verify_verdicts.UNKNOWN in words and "nobody filtered canaries out" in words
    assert (
        "that the key is of the training data: --data FILE compares them" in words
    )  # a wrong key looks so too


def test_a_control_is_trained_on_the_planted_file_and_found_again(
    world: Path, toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few steps it has learned nothing: power stays away, and the same words train no second one. How
    long it takes is told before, within a factor of three. The audited adapter is asked first: one that is
    refuted needs no control.
    """
    told: list[tuple[float, str]] = []
    monkeypatch.setattr(Progress, "say", lambda _, line: told.append((time.perf_counter(), line)))
    words = ["--key", world / "key.json", "--data", world / "planted.jsonl", "--claim", CLAIM]
    words += ["--train-control", "--control-steps", 20]
    refuted = check("--adapter", world / "adapter", *words, "--out", tmp_path / "refuted")
    assert refuted.exit_code == 1 and verify.NOT_NEEDED in refuted.output, refuted.output
    shown = " ".join(refuted.output.split())
    assert "the most that this audit can prove, with all 50 guesses right, is 2.78" in shown
    assert "noted before: not compared: --commitment HEX compares it with what you noted" in shown
    assert not (tmp_path / "refuted/control").exists() and not any("training" in line for _, line in told)
    weak = tmp_path / "weak"
    trained(world / "planted.jsonl", toy_model_dir, weak, "--epochs", "2")
    words = ["--adapter", weak, *words, "--out", tmp_path]
    told.clear()
    done = check(*words)
    assert next(i for i, (_, line) in enumerate(told) if "training a control" in line) > 0
    (began, line), *after = told[
        next(i for i, (_, line) in enumerate(told) if "training a control" in line) :
    ]
    expected = float(re.search(r"20 steps of 8 rows, about (\d+) seconds", line)[1])  # type: ignore[index]
    assert "for the training alone" in line
    took = next(at for at, line in after if line.startswith("verify")) - began
    assert took / 3 - 1 < expected < 3 * took + 1
    told.clear()
    assert done.exit_code == 4 and verify.NOT_NEEDED not in done.output, done.output
    found = found_in(tmp_path)["control"]
    assert found["steps"] == 20 and found["rows"] > 0 and found["gain"] is not None
    settings = json.loads((tmp_path / "control/adapter_config.json").read_text())
    own = json.loads((weak / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (own["r"], own["lora_alpha"])
    check(*words)
    assert not any("training a control" in line for _, line in told)
    base = shutil.copytree(toy_model_dir, tmp_path / "base")
    (base / "config.json").write_text((base / "config.json").read_text() + "\n")
    alike = copied(weak, tmp_path / "b", base_model_name_or_path=str(base))
    stronger = copied(weak, tmp_path / "c", lora_alpha=2 * own["lora_alpha"])
    (tmp_path / "verification.json").unlink()  # it would refuse another adapter first
    for asked in (
        ["--control-rate", 0.5, *words],
        [words[0], alike, *words[2:]],
        [words[0], stronger, *words[2:]],
    ):
        other = check(*asked)
        assert isinstance(other.exception, UsageError) and "got another control" in str(other.exception)


def copied(adapter: Path, to: Path, **settings: Any) -> Path:
    """The adapter with other settings."""
    file = shutil.copytree(adapter, to) / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return to


def test_a_claim_above_the_ceiling_is_no_power(world: Path, tmp_path: Path) -> None:
    done = check(
        "--adapter",
        world / "adapter",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM.replace("0.5", "8"),
        "--out",
        tmp_path,
    )
    assert done.exit_code == 4, done.output
    assert "No number of right guesses" in (tmp_path / "index.html").read_text()


def test_no_control_is_trained_for_a_claim_that_no_guess_can_refute(world: Path, tmp_path: Path) -> None:
    words = ["--adapter", world / "adapter", "--key", world / "key.json", "--data", world / "planted.jsonl"]
    words += ["--out", tmp_path / "page", "--train-control", "--control-steps", 20]
    refused = check(*words, "--claim", CLAIM.replace("0.5", "4")).exception
    assert isinstance(refused, UsageError) and "coins, which cannot refute epsilon 4" in refused.got
    told = re.search(r"plant ([\d,]+) or more", refused.remedy)
    assert told is not None
    needed = int(told[1].replace(",", ""))
    key = audit_key.load(world / "key.json")
    assert reach.can_refute(key, 4, 1e-5, needed) and not reach.can_refute(key, 4, 1e-5, needed - 1)
    assert not (tmp_path / "page").exists()
    hopeless = check(*words, "--claim", CLAIM.replace("0.5", "20")).exception
    assert isinstance(hopeless, UsageError) and "no number of canaries" in hopeless.remedy


def test_a_key_that_was_not_the_one_noted_down_is_told_before_anything_is_asked(
    world: Path, tmp_path: Path
) -> None:
    words = ["--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM]
    done = check(*words, "--out", tmp_path / "page", "--commitment", "0" * 64)
    assert done.exit_code == 1 and "noted before: another" in done.output and "verdict" not in done.output
    assert not (tmp_path / "page").exists()


def test_ties_everywhere_are_no_power(world: Path, toy_model_dir: Path, tmp_path: Path) -> None:
    done = check(
        "--model",
        toy_model_dir,
        "--base",
        toy_model_dir,
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--out",
        tmp_path,
    )
    assert done.exit_code == 4, done.output
    assert "no trace" in done.output


def test_a_merged_model_says_what_its_adapter_says(
    world: Path, merged: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    done = check(
        "--model",
        merged,
        "--base",
        toy_model_dir,
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--out",
        tmp_path / "m",
    )
    assert done.exit_code == 1, done.output
    check(
        "--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM, "--out", tmp_path / "a"
    )
    one, other = (found_in(tmp_path / name)["bound"] for name in "ma")
    assert abs(one["correct"] - other["correct"]) <= 1


def test_a_claim_at_delta_0_leaves_out_the_gaussian_family(world: Path, tmp_path: Path) -> None:
    done = check(
        "--adapter",
        world / "adapter",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM.replace("1e-5", "0"),
        "--out",
        tmp_path,
    )
    assert done.exit_code == 1, done.output

    def no_number(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    json.loads((tmp_path / "verification.json").read_text(), parse_constant=no_number)
    found = found_in(tmp_path)
    assert found["fdp"]["epsilon_lower"] is None and found["bound"]["epsilon_lower"] > 0.5


def test_pairs_are_scored_by_their_margin(toy_adapter_dir: Path, tmp_path: Path) -> None:
    out, path, _ = planted(tmp_path, "pair")
    done = check(
        "--adapter",
        toy_adapter_dir,
        "--key",
        path,
        "--data",
        out,
        "--out",
        tmp_path / "v",
        "--claim",
        "eps=2,delta=1e-5,unit=pair,relation=add_or_remove",
    )
    assert done.exit_code == 4, done.output
    found = found_in(tmp_path / "v")
    assert found["rule"]["pair_margin"] and found["bound"]["canaries"] == 100


def test_one_refutation_outranks_the_rest() -> None:
    assert verify.exit_code(["not refuted", "no power", "refuted"]) == 1
    assert verify.exit_code(["not refuted", "no power"]) == 4
    assert verify.exit_code(["not refuted"]) == 0


def test_a_key_whose_coins_follow_the_texts_gives_no_verdict(
    world: Path, toy_model_dir: Path, merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm = Blind(0.9, 0.8, 0.95, 2e-4, alarm=True, units=300, finding="broken coins")
    monkeypatch.setattr(verify_verdicts, "blind_of", lambda key: alarm)
    done = check(
        "--model",
        merged,
        "--base",
        toy_model_dir,
        "--key",
        world / "key.json",
        "--out",
        tmp_path,
        "--claim",
        CLAIM,
    )
    assert done.exit_code == 4 and "coins are broken" in done.output
    assert "no verdict can be given" in (tmp_path / "index.html").read_text()
