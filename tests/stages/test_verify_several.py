"""Several adapters and claims in one call: one page, one family, and nothing loaded for a wrong call."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strangers import CLAIM, check, page_of
from test_verify_false_refutation import CANARIES, answers_of, key_of, nothing

from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.pipeline import control
from dpaudit.privacy.claim import Claim
from dpaudit.stages import verify_folder, verify_verdicts
from dpaudit.stages.verify_verdicts import Claimed

TWO = CLAIM.replace("eps=0.5", "eps=2")


def one_line(*words: object) -> str:
    """What a call is refused with."""
    refusal = check(*words).exception
    assert isinstance(refusal, UsageError) and "\n" not in str(refusal), refusal
    return str(refusal)


def test_two_adapters_and_two_claims_are_one_page_and_one_family(
    world: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    """Two folders of one name: the first leaks, the second saw no canary."""
    leaks, knows_nothing = tmp_path / "a/adapter", tmp_path / "b/adapter"
    shutil.copytree(world / "adapter", leaks)
    shutil.copytree(toy_adapter_dir, knows_nothing)
    key = ("--key", world / "key.json", "--out", tmp_path / "page")
    done = check("--adapter", leaks, "--claim", CLAIM, "--adapter", knows_nothing, "--claim", TWO, *key)
    assert done.exit_code == 1, done.output  # one refutation outranks the other's silence
    found = json.loads((tmp_path / "page/verification.json").read_text())
    first, second = found["answers"]
    assert [a["arm"] for a in (first, second)] == [str(leaks), str(knows_nothing)]
    assert [a["claim"]["epsilon"] for a in (first, second)] == [0.5, 2.0]
    assert [a["verdict"] for a in (first, second)] == ["refuted", "no power"]
    assert [model["name"] for model in found["models"]] == [str(leaks), str(knows_nothing)]
    assert found["members"] == 2
    assert [a["questions"][0]["level"] for a in (first, second)] == [
        0.025,
        0.05,
    ]  # Holm frees the first share
    assert first["bound"]["confidence"] == pytest.approx(0.975)
    assert first["bound"]["epsilon_lower"] == first["questions"][0]["epsilon_lower"]
    page = page_of(tmp_path / "page")
    assert page.count('<article class="answer') == 2 and page.count("<h2>a/adapter</h2>") == 1
    for words in ("Are the claims true?", "b/adapter", "97.5 %", "are one family"):
        assert words in page
    for words in ("refuted", "no power", "2 questions, tested together at 5%"):
        assert words in done.output


def test_two_true_claims_are_tested_at_half_the_level_each() -> None:
    random = np.random.default_rng(11)
    coins = random.random(CANARIES) < 0.5
    key, claim = key_of(coins, False), Claim(0.5, 1e-5, "record", "add_or_remove")
    seen = [answers_of(random, nothing(random, coins), False, True) for _ in "ab"]
    guessed = [verify_verdicts.guessed(key, answers) for answers in seen]
    made = [Claimed(name, claim, one) for name, one in zip("ab", guessed, strict=True)]
    told = verify_verdicts.judged(made)
    assert [answer.questions[0].level for answer in told] == [0.025, 0.025]
    assert all(answer.bound.confidence == pytest.approx(0.975) for answer in told)
    nested = verify_verdicts.judged([made[0], replace(made[0], claim=replace(claim, epsilon=1.0))])
    assert [answer.questions[0].level for answer in nested] == [
        0.05,
        0.05,
    ]  # one adapter, one delta: one member


A, B, C = (Claim(epsilon, 1e-5, "record", "add_or_remove") for epsilon in (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("models", "said", "pairs"),
    [
        ("x", [A, B], [("x", A), ("x", B)]),
        ("xy", [A], [("x", A), ("y", A)]),
        ("xy", [B, A], [("x", B), ("y", A)]),
        ("xxy", [A, B, A], [("x", A), ("x", B), ("y", A)]),
    ],
)
def test_claims_and_adapters_in_pairs(models: str, said: list[Claim], pairs: Any) -> None:
    assert claims.paired(models, said) == tuple(pairs)


@pytest.mark.parametrize(
    ("models", "said", "told"),
    [
        ("xy", [A, B, C], "got 2 adapters and 3 claims"),
        ("xyz", [A, B], "got 3 adapters and 2 claims"),
        ("x", [A, A], "got eps=1.0,delta=1e-05,unit=record,relation=add_or_remove twice"),
        ("xx", [A], "twice"),
    ],
)
def test_claims_and_adapters_that_do_not_fit(models: str, said: list[Claim], told: str) -> None:
    with pytest.raises(UsageError) as refusal:
        claims.paired(models, said)
    assert told in str(refusal.value)


def test_a_claim_that_is_typed_is_read_back() -> None:
    odd = Claim(0.1 + 0.2, 3e-7, "pair", "replace")
    assert claims.parse(claims.typed(odd)) == odd


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (CLAIM.replace("eps=0.5", "eps=three"), "--claim"),
        (CLAIM.replace("record", "patient"), "--claim: unit"),
        (CLAIM.replace("add_or_remove", "replace"), "--claim: relation"),
        (CLAIM, "twice"),
    ],
)
def test_a_second_claim_that_cannot_be_tested_is_refused_before_anything_is_loaded(
    second: str, told: str, world: Path, tmp_path: Path
) -> None:
    """The base is not there, which opening it would tell; nor is a control trained."""
    words = ["--adapter", world / "adapter", "--base", tmp_path / "no-base", "--key", world / "key.json"]
    words += ["--data", world / "planted.jsonl", "--out", tmp_path / "page", "--train-control"]
    words += ["--claim", CLAIM]
    assert told in one_line(*words, "--claim", second)
    assert not (tmp_path / "page").exists()
    assert one_line(*words, "--claim", TWO).startswith(f"--base {tmp_path / 'no-base'}")


def test_one_folder_is_one_adapter_however_it_is_written(world: Path, tmp_path: Path) -> None:
    again = world / "adapter/../adapter"
    words = [
        "--adapter",
        world / "adapter",
        "--adapter",
        again,
        "--key",
        world / "key.json",
        "--out",
        tmp_path,
    ]
    assert "twice" in one_line(*words, "--claim", CLAIM)


def test_several_claims_of_a_run_are_one_call_each() -> None:
    assert "one claim with --run, got 2 claims" in one_line("--run", "x", "--claim", CLAIM, "--claim", TWO)


def settings(folder: Path, **more: Any) -> Path:
    folder.mkdir()
    known = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": "base",
    }
    (folder / "adapter_config.json").write_text(json.dumps(known | more))
    return folder


def test_one_control_is_trained_for_adapters_that_are_alike(tmp_path: Path) -> None:
    one = settings(tmp_path / "one")
    same = settings(tmp_path / "same", target_modules=["v_proj", "q_proj"])
    assert control._lora([one, same]).targets == ("q_proj", "v_proj")
    for name, other in {"rank": {"r": 8}, "targets": {"target_modules": "all-linear"}}.items():
        with pytest.raises(UsageError, match="one rank, alpha and targets"):
            control._lora([one, settings(tmp_path / name, **other)])
    with pytest.raises(UsageError, match="one base"):
        control._base([one, settings(tmp_path / "base", base_model_name_or_path="other")], None)


def test_an_older_result_or_one_of_another_key_is_not_replaced(world: Path, tmp_path: Path) -> None:
    words = ["--adapter", world / "adapter", "--key", world / "key.json", "--out", tmp_path, "--claim", CLAIM]
    for known in ({"format": "verification/3"}, {"format": "verification/5", "commitment": "0" * 64}):
        (tmp_path / verify_folder.FILE).write_text(json.dumps(known))
        told = one_line(*words)
        assert "got a result of another key, format or program" in told and "--out DIR" in told
