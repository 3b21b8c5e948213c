"""Ledgers: found where they lie, and believed only when they add up."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dpaudit.errors import UsageError
from dpaudit.privacy import beside
from dpaudit.privacy.accountants import epsilon_spent
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.ledger import digest
from dpaudit.privacy.mechanism import Mechanism

STEP = {"noise_multiplier": 1.0, "sampling_rate": 0.05, "steps": 40, "clip": 0.5}
CLAIM = {"epsilon": 9.0, "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"}
EARLIER = {"noise_multiplier": 2.0, "sampling_rate": 0.1, "steps": 20, "clip": 1.0}


def written(folder: Path, **changes: Any) -> dict[str, Any]:
    """A ledger that adds up, but for `changes`, as privacy.json of the folder."""
    data: dict[str, Any] = {
        "arm": {"method": "sft", "loss": "sft", "epsilon": 9.0, "seed": 0},
        "claim": CLAIM,
        "mechanism": STEP,
        "epsilon_pld": epsilon_spent(Mechanism(**STEP), 1e-5),
        "steps_done": 40,
        "reproducible_noise": False,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "privacy.json").write_text(json.dumps(data))
    return data


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    return folder


def arm(folder: Path) -> Path:
    """A run's train/ARM without its ledger."""
    adapter(folder / "adapter")
    (folder / "train.json").write_text("{}")
    return folder


def test_found_beside_an_adapter_above_it_in_an_arm_and_in_a_merged_model(tmp_path: Path) -> None:
    data = written(adapter(tmp_path / "alone"))
    above = arm(tmp_path / "run")
    written(above)
    merged = tmp_path / "merged"
    written(merged)
    (merged / "config.json").write_text(json.dumps({beside.KEY: digest(merged / "privacy.json")}))
    for folder in (tmp_path / "alone", above, above / "adapter", merged):
        found = beside.find(folder)
        assert found is not None
        assert found.claim == Claim(**CLAIM)
        assert found.mechanism == Mechanism(**STEP) and found.epsilon == data["epsilon_pld"]
        assert found.mechanisms == (Mechanism(**STEP),)


def test_the_folder_above_counts_for_adapters_only(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert beside.find(tmp_path / "model") is None
    assert beside.find(adapter(tmp_path / "adapter")) is not None


def test_no_ledger_where_none_is_named(tmp_path: Path) -> None:
    assert beside.find(adapter(tmp_path / "one")) is None


def test_missing_though_the_model_names_one_or_training_wrote_one(tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "config.json").write_text(json.dumps({beside.KEY: "0" * 64}))
    for folder in (tmp_path / "merged", arm(tmp_path / "arm"), tmp_path / "arm" / "adapter"):
        with pytest.raises(UsageError, match=r"privacy\.json: expected the ledger that .*, got no such file"):
            beside.find(folder)


def test_an_edited_ledger_of_a_merged_model(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({beside.KEY: digest(tmp_path / "privacy.json")}))
    assert beside.find(tmp_path) is not None
    written(tmp_path, reproducible_noise=True)
    with pytest.raises(UsageError, match="an edited or exchanged ledger"):
        beside.find(tmp_path)


def test_one_that_stopped_half_way(tmp_path: Path) -> None:
    written(tmp_path, steps_done=39)
    with pytest.raises(UsageError, match="all 40 steps, got a ledger of 39 steps"):
        beside.find(tmp_path)


@pytest.mark.parametrize(
    ("share", "refused"), [(1.0, False), (0.9995, False), (0.998, True), (math.nan, True)]
)
def test_epsilon_below_what_the_mechanism_spends(tmp_path: Path, share: float, refused: bool) -> None:
    data = written(tmp_path)
    written(tmp_path, epsilon_pld=data["epsilon_pld"] * share)
    if not refused:
        assert beside.find(tmp_path) is not None
        return
    with pytest.raises(UsageError, match="the epsilon that its mechanism and stages spend"):
        beside.find(tmp_path)


@pytest.mark.parametrize(
    ("claimed", "refused"), [(1.0, False), (0.9995, False), (0.998, True), (0.01, True), (math.inf, False)]
)
def test_a_claim_of_less_epsilon_than_is_spent(tmp_path: Path, claimed: float, refused: bool) -> None:
    spent = written(tmp_path)["epsilon_pld"]
    written(tmp_path, claim=CLAIM | {"epsilon": spent * claimed})
    if not refused:
        assert beside.find(tmp_path) is not None
        return
    with pytest.raises(UsageError, match=r"at most the claimed epsilon .*, got 2\.468"):
        beside.find(tmp_path)


def test_a_finite_claim_over_an_infinite_epsilon(tmp_path: Path) -> None:
    written(tmp_path, epsilon_pld="inf")
    with pytest.raises(UsageError, match="at most the claimed epsilon 9 as epsilon_pld, got inf"):
        beside.find(tmp_path)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        (
            {
                "base_model_name_or_path": "elsewhere",
                "revision": "x",
                "inference_mode": False,
                "peft_version": "9",
            },
            False,
        ),
        ({"lora_alpha": 0}, True),
        ({"alpha_pattern": {"q_proj": 640}}, True),
        ({"use_rslora": True}, True),
    ],
)
def test_settings_that_act_are_those_of_the_ledger(
    tmp_path: Path, changes: dict[str, Any], refused: bool
) -> None:
    config = {"base_model_name_or_path": "here", "lora_alpha": 16, "r": 8, "use_rslora": False}
    above = arm(tmp_path)
    (above / "adapter" / beside.ADAPTER).write_bytes(b"weights")
    (above / "adapter" / beside.CONFIG).write_text(json.dumps(config))
    written(above, **{"adapter_settings_sha256": beside.settings_digest(above / "adapter")})
    (above / "adapter" / beside.CONFIG).write_text(json.dumps(config | changes))
    for folder in (above, above / "adapter"):
        if not refused:
            assert beside.find(folder) is not None
            continue
        with pytest.raises(
            UsageError, match=r"adapter_config\.json: expected the settings that .* got other settings"
        ):
            beside.find(folder)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"a.safetensors": "1", "b.safetensors": "2"}, None),
        ({}, None),
        ({"a.safetensors": "1", "b.safetensors": "3"}, r"got BASE with another b\.safetensors"),
        ({"a.safetensors": "1", "b.safetensors": "2", "c.safetensors": "3"}, r"another c\.safetensors"),
        ({"a.safetensors": "1"}, r"got BASE without b\.safetensors"),
    ],
)
def test_the_base_is_that_of_the_ledger(tmp_path: Path, now: dict[str, str], told: str | None) -> None:
    written(tmp_path, **{"base_files": {"a.safetensors": "1", "b.safetensors": "2"}})
    found = beside.find(tmp_path)
    assert found is not None and beside.unnamed(found) == ("weights", "settings")
    if told is None:
        beside.require_base(found, "BASE", now)
        return
    with pytest.raises(UsageError, match=told):
        beside.require_base(found, "BASE", now)


def test_stages_count(tmp_path: Path) -> None:
    """The epsilon of the last stage alone is too little; that of both together is right, for both stages in
    order.
    """
    written(tmp_path, stages=[EARLIER])
    with pytest.raises(UsageError, match="mechanism and stages"):
        beside.find(tmp_path)
    both = Mechanism(**STEP, stages=(Mechanism(**EARLIER),))
    written(tmp_path, stages=[EARLIER], epsilon_pld=epsilon_spent(both, 1e-5))
    found = beside.find(tmp_path)
    assert found is not None and found.mechanism == both
    assert found.mechanisms == (Mechanism(**EARLIER), Mechanism(**STEP))


def test_stages_of_stages_count(tmp_path: Path) -> None:
    nested = Mechanism(**STEP, stages=(Mechanism(**EARLIER, stages=(Mechanism(**STEP),)),))
    written(tmp_path, stages=[EARLIER | {"stages": [STEP]}], epsilon_pld=epsilon_spent(nested, 1e-5))
    found = beside.find(tmp_path)
    assert found is not None and found.mechanism == nested
    assert found.mechanisms == (Mechanism(**STEP), Mechanism(**EARLIER), Mechanism(**STEP))


def test_an_open_arm_has_a_ledger_too(tmp_path: Path) -> None:
    claim = {"epsilon": "inf", "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"}
    written(
        tmp_path, claim=claim, mechanism=STEP | {"noise_multiplier": 0.0, "clip": None}, epsilon_pld="inf"
    )
    found = beside.find(tmp_path)
    assert found is not None and found.mechanism is not None
    assert math.isinf(found.epsilon) and math.isinf(found.mechanism.clip)


def test_an_open_mechanism_that_records_an_epsilon(tmp_path: Path) -> None:
    written(tmp_path, mechanism=STEP | {"clip": None})
    with pytest.raises(UsageError, match="stages spend, got"):
        beside.find(tmp_path)


def test_randomised_labels(tmp_path: Path) -> None:
    claim = {"epsilon": 2.0, "delta": 0.0, "unit": "label", "relation": "replace"}
    mechanism = {"name": "randomised response", "flip_probability": 1 / (1 + math.exp(2))}
    written(tmp_path, claim=claim, mechanism=mechanism, epsilon_pld=2.0)
    found = beside.find(tmp_path)
    assert found is not None and (found.mechanism, found.claim.unit, found.claim.delta) == (None, "label", 0)
    written(tmp_path, claim=claim, mechanism=mechanism, epsilon_pld=1.5)
    with pytest.raises(UsageError, match=r"stages spend, got 1\.5"):
        beside.find(tmp_path)
    written(tmp_path, claim=claim | {"epsilon": 1.0}, mechanism=mechanism, epsilon_pld=2.0)
    with pytest.raises(UsageError, match="at most the claimed epsilon 1 as epsilon_pld, got 2"):
        beside.find(tmp_path)
    written(tmp_path, claim=claim | {"unit": "record"}, mechanism=mechanism, epsilon_pld=2.0)
    with pytest.raises(UsageError, match="stages spend, got 2"):
        beside.find(tmp_path)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"claim": {"epsilon": 2.0}}, "with the key 'delta'"),
        ({"mechanism": {"noise_multiplier": 1.0}}, "with the key"),
        ({"mechanism": STEP | {"sampling_rate": 2}}, "sampling_rate in"),
        (
            {"claim": {"epsilon": 2.0, "delta": 1e-5, "unit": "word", "relation": "replace"}},
            "unit: expected one of",
        ),
        ({"claim": 3}, "a privacy ledger"),
    ],
)
def test_what_is_no_ledger(tmp_path: Path, changes: dict[str, Any], wanted: str) -> None:
    written(tmp_path, **changes)
    with pytest.raises(UsageError, match=wanted):
        beside.find(tmp_path)


def test_what_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "privacy.json").write_text("{a patient's words")
    with pytest.raises(UsageError, match="expected a JSON object") as raised:
        beside.find(tmp_path)
    assert "words" not in str(raised.value)
