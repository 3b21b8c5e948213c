"""The ledger: what it says of a training comes back from JSON, and no other code reads its keys."""

import ast
import math
from pathlib import Path
from typing import Any

import pytest

import dpaudit
from dpaudit.errors import UsageError
from dpaudit.privacy import ledger
from dpaudit.privacy.accountants import epsilon_spent
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.ledger import Ledger
from dpaudit.privacy.mechanism import Mechanism

FIRST = Mechanism(2.0, 0.1, 20, 1.0)
WHOLE = Mechanism(1.0, 0.05, 40, 0.5, (FIRST,))
CLAIM = Claim(9.0, 1e-5, "patient", "add_or_remove")
ARM = {"method": "sft", "loss": "sft", "epsilon": 9.0, "seed": 0}
FACTS: dict[str, Any] = {"population": 100, "population_assumed": True, "expected_batch": 5}


def made(**changes: Any) -> Ledger:
    return ledger.made(CLAIM, WHOLE, 40, ARM, **FACTS | changes)


def test_what_was_spent_comes_back_from_json() -> None:
    kept = Ledger.from_json(made().to_json())
    assert kept == made() and kept.claim == CLAIM and kept.is_private
    assert kept.mechanism == WHOLE and kept.mechanisms == WHOLE.each and kept.acting.stages == ()
    assert kept.epsilon == epsilon_spent(WHOLE, 1e-5) == kept.epsilon_at(1e-5)
    assert kept.epsilon_at(1e-7) == epsilon_spent(WHOLE, 1e-7) > kept.epsilon
    assert kept.epsilon_rdp is not None and kept.epsilon_rdp > kept.epsilon
    assert (kept.population, kept.expected_batch, kept.steps_done) == (100, 5, 40)


def test_without_noise_nothing_is_claimed_and_the_clip_is_infinite() -> None:
    """JSON has no infinity: `null` and "inf" stand for it, and are read back as such everywhere."""
    claim = Claim(math.inf, 1e-5, "patient", "add_or_remove")
    data = ledger.made(claim, Mechanism(0.0, 0.05, 40, math.inf), 40, ARM, **FACTS).to_json()
    assert data["mechanism"]["clip"] is None and data["claim"]["epsilon"] == data["epsilon_pld"] == "inf"
    kept = Ledger.from_json(data)
    assert not kept.is_private and kept.acting.clip == kept.epsilon == kept.epsilon_at(1e-7) == math.inf


def test_randomised_response_needs_no_delta() -> None:
    claim = Claim(2.0, 0.0, "label", "replace")
    kept = Ledger.from_json(ledger.of_labels(made(), claim, 0.12).to_json())
    assert kept.mechanism is None and kept.mechanisms == () and kept.claim == claim
    assert kept.epsilon == kept.epsilon_at(1e-7) == 2.0 and kept.flip_probability == 0.12


@pytest.mark.parametrize("steps", [1, 39])
def test_beside_a_checkpoint_it_says_no_less(steps: int) -> None:
    early = made().at_step(steps)
    assert (early.steps_done, early.epsilon) == (steps, made().epsilon)
    assert early.beginning == made().beginning


@pytest.mark.parametrize("key", ["claim", "mechanism", "epsilon_pld", "steps_done"])
def test_a_ledger_without_a_key_is_none(key: str) -> None:
    data = made().to_json()
    del data[key]
    with pytest.raises(UsageError, match=rf"x\.json: expected a privacy ledger with the key '{key}'"):
        Ledger.from_json(data, Path("x.json"))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("claim", {"epsilon": 0.0}),
        ("claim", {"delta": 0.0}),
        ("claim", {"unit": "user"}),
        ("mechanism", {"sampling_rate": 1.5}),
        ("mechanism", {"noise_multiplier": "x"}),
        ("mechanism", {"clip": -1.0}),
    ],
)
def test_what_cannot_be_is_no_ledger(part: str, change: dict[str, Any]) -> None:
    data = made().to_json()
    data[part] = data[part] | change
    with pytest.raises(UsageError, match="expected a privacy ledger"):
        Ledger.from_json(data)


def test_no_other_code_knows_its_file() -> None:
    package = Path(dpaudit.__file__).parent
    knowing = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and str(node.value).rpartition("/")[2] == "privacy.json"
    }
    assert knowing == {"privacy/ledger.py"}
