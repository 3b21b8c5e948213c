"""A control gives power and nothing else, and what cannot be one is refused before anything is loaded."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from strangers import judged
from test_verify_false_refutation import CANARIES, key_of, spans

from dpaudit.errors import UsageError
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.questions import Control
from dpaudit.findings.verification import ControlSeen
from dpaudit.models import low_rank
from dpaudit.pipeline import control as training
from dpaudit.privacy.claim import Claim
from dpaudit.stages import verify_control
from dpaudit.stages.asking import Answers

CLAIM = Claim(0.5, 1e-5, "record", "add_or_remove")


def folder(place: Path, weights: bytes = b"w", **record: Any) -> Path:
    place.mkdir()
    (place / verify_control.WEIGHTS).write_bytes(weights)
    if record:
        (place / verify_control.RECORD).write_text(json.dumps(record))
    return place


def test_what_cannot_be_a_control_is_refused_in_one_line(tmp_path: Path) -> None:
    audited, data = [folder(tmp_path / "audited")], tmp_path / "data.jsonl"
    copy = Path(shutil.copytree(tmp_path / "audited", tmp_path / "copy"))
    for control, file, told in (
        (copy, data, "got the audited adapter itself"),
        (copy, None, "got no --data"),
        (tmp_path / "none", data, "got no such file"),
    ):
        with pytest.raises(UsageError, match=told):
            verify_control.check(control, audited, file)
    verify_control.check(folder(tmp_path / "other", b"v"), audited, data)


def lora(place: Path, a: torch.Tensor, b: torch.Tensor, **more: torch.Tensor) -> Path:
    place.mkdir()
    named = {"base.q.lora_A.weight": a, "base.q.lora_B.weight": b, **more}
    save_file(
        {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in named.items()},
        place / verify_control.WEIGHTS,
    )
    return place


def test_a_near_copy_of_an_audited_adapter_is_no_control(tmp_path: Path) -> None:
    """However it is written: scaled, of another rank, rotated inside, in half precision. One that differs by
    a fifth of its length is a training of its own.
    """
    torch.manual_seed(0)
    a, b, c, d = torch.randn(4, 16), torch.randn(8, 4), torch.randn(4, 16), torch.randn(8, 4)
    audited, data = [lora(tmp_path / "audited", a, b)], tmp_path / "data.jsonl"
    turned = torch.linalg.qr(torch.randn(4, 4)).Q
    copies = {
        "scaled": (a * 1.00001, b * 3),
        "turned": (turned @ a, b @ turned.T),
        "padded": (torch.cat([a, c]), torch.cat([b, torch.zeros(8, 4)], 1)),
        "half": (a.bfloat16(), b.bfloat16()),
    }
    for name, of in copies.items():
        with pytest.raises(UsageError, match=r"got a near-copy of the audited adapter \(cosine 0\.99|1\.0"):
            verify_control.check(lora(tmp_path / name, *of), audited, data)
    length = (b @ a).norm() / (d @ c).norm()
    own = torch.cat([a, c * length * 0.2]), torch.cat([b, d], 1)
    verify_control.check(lora(tmp_path / "own", *own), audited, data)
    assert low_rank.cosine(
        audited[0] / verify_control.WEIGHTS, tmp_path / "own" / verify_control.WEIGHTS
    ) == (
        pytest.approx(
            float(torch.nn.functional.cosine_similarity((b @ a).ravel(), (own[1] @ own[0]).ravel(), 0))
        )
    )
    elsewhere = lora(tmp_path / "elsewhere", a * 0, b, **{"x.lora_A.weight": a, "x.lora_B.weight": b})
    verify_control.check(elsewhere, audited, data)


def test_a_control_of_other_data_is_refused_where_it_says_so(tmp_path: Path) -> None:
    key: Any = SimpleNamespace(data_digest="a" * 32)
    with pytest.raises(UsageError, match="got a control of other data"):
        verify_control.check_key(folder(tmp_path / "other", data_digest="b" * 32), key)
    verify_control.check_key(folder(tmp_path / "same", data_digest="a" * 32), key)
    verify_control.check_key(folder(tmp_path / "unknown"), key)


@pytest.mark.parametrize(
    ("gain", "audited", "told"),
    [
        (1.0, 0.9, None),
        (0.4, 0.9, None),  # less than the audited adapter: it knows less, and power is what it shows
        (2.0, 0.9, "learned far more"),
        (1.0, -0.1, "no better than its base"),
        (None, 0.5, "cannot be compared"),
        (float("nan"), 0.5, "cannot be compared"),
    ],
)
def test_a_control_that_learned_far_more_leaves_power_unknown(
    gain: float | None, audited: float, told: str | None
) -> None:
    said = verify_control._unlike(gain, audited)
    assert said is None if told is None else said is not None and told in said


def test_what_a_trainer_recorded_is_told_and_broken_records_are_not(tmp_path: Path) -> None:
    assert verify_control.recorded(folder(tmp_path / "own", steps=9, learning_rate=0.1, more="x")) == {
        "steps": 9,
        "learning_rate": 0.1,
    }
    place = folder(tmp_path / "theirs")
    history = [{"loss": 2.0, "learning_rate": 1e-3}, {"loss": 1.5, "learning_rate": 5e-4}, {"eval": 1}]
    (place / "trainer_state.json").write_text(json.dumps({"global_step": 20, "log_history": history}))
    assert verify_control.recorded(place) == {"steps": 20, "training_loss": 1.5, "learning_rate": 1e-3}
    (place / "trainer_state.json").write_text("[" * 100_000)
    assert verify_control.recorded(place) == {}


def seen(unknown: str | None = None) -> ControlSeen:
    return ControlSeen("control", "0" * 64, 50, 50, 1.0, 0.9, 32, 20, 1e-3, 1.5, unknown)


def verdict_of(look: verify_control.Look | None, leak: float = 0.0) -> Any:
    random = np.random.default_rng(5)
    coins = random.random(CANARIES) < 0.5
    values = random.standard_normal(CANARIES)
    answers = [
        Answers(
            "plain",
            ("a",) * CANARIES,
            spans(values + leak * coins),
            spans(np.zeros(CANARIES)),
        )
    ]
    return judged(key_of(coins, False), CLAIM, answers, look=look)


def test_power_comes_from_the_control_and_the_word_with_it() -> None:
    count = verdict_of(None).guesses
    perfect = Guesses(count.canaries, count.guesses, count.guesses, count.guesses, False, 0.95)
    shown = verify_control.Look(Control("control", perfect), "", seen())
    weak = verify_control.Look(Control("control", count), "", seen())
    far = verify_control.Look(None, "its power is unknown: far more", seen("far more"))
    words = {
        name: verdict_of(look).verdict for name, look in (("shown", shown), ("weak", weak), ("far", far))
    }
    assert {name: found.verdict for name, found in words.items()} == {
        "shown": "not refuted",
        "weak": "no power",
        "far": "no power",
    }
    assert "far more" in words["far"].reason
    assert verdict_of(far, leak=9.0).verdict.verdict == "refuted"  # a control takes nothing away


def test_options_of_a_control_out_of_range() -> None:
    with pytest.raises(UsageError, match="--control-steps"):
        training.Wanted(steps=0)
    with pytest.raises(UsageError, match="--control-rate"):
        training.Wanted(learning_rate=1.5)
