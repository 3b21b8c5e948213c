"""A control: an adapter that was trained on the planted data without noise. It gives power and nothing else:
it chooses no rendering, recipe or number of guesses, and enters no score.
"""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit.data.reading import read_records
from dpaudit.errors import UsageError
from dpaudit.evidence.questions import Control
from dpaudit.findings.verification import ControlSeen
from dpaudit.planting.audit_key import AuditKey, Planted
from dpaudit.planting.reach import can_refute, coins_needed
from dpaudit.privacy.claim import Claim
from dpaudit.signals.recipe import Recipe
from dpaudit.stages.asking import Answers, ask
from dpaudit.stages.audit.performance import guess_by
from dpaudit.stages.audited import Audited
from dpaudit.stages.verify_kept import Kept
from dpaudit.stages.verify_scores import scored
from dpaudit.storage.custody import file_digest
from dpaudit.system.progress import Progress

ROWS = 32  # ordinary rows whose gain is compared
NEAR = 0.99  # cosine of two changes of weights: above it one adapter is a copy of the other
FAR_MORE = 2.0  # times the gain of the audited adapter: then power is unknown
WEIGHTS = "adapter_model.safetensors"
RECORD = "control.json"  # what `--train-control` leaves beside the weights


@dataclass(frozen=True)
class Look:
    """The control's guesses, as far as power may rest on them, and what stands beside them."""

    control: Control | None
    unknown: str
    seen: ControlSeen


def check(control: Path, adapters: Sequence[Path], data: Path | None) -> None:
    """Raises UsageError, before a model is loaded, for a folder that cannot be a control of `adapters`.

    One of the audited adapters is none, nor is a near-copy of it, since it would only say the same again: a
    change of weights whose cosine with an audited one's is above NEAR. There the two differ by less than a
    seventh of their length, as by rounding, scaling or a few further steps. Trainings of their own end far
    below: on the toy model, 40 epochs of the same script and data, another seed gives .30, and the same seed
    with nine tenths of the learning rate, so the same batches from the same beginning, .63.
    """
    where = f"--control {control}"
    if data is None:
        raise UsageError(
            where,
            "--data FILE beside it, whose ordinary rows show how much each adapter learned",
            "no --data",
            "add --data FILE, the planted file",
        )
    if not (control / WEIGHTS).is_file():
        raise UsageError(where, f"an adapter folder with {WEIGHTS}", "no such file")
    files = [adapter / WEIGHTS for adapter in adapters if (adapter / WEIGHTS).is_file()]
    audited = "the audited adapter itself" if len(adapters) == 1 else "one of the audited adapters"
    if any(file_digest(own) == file_digest(control / WEIGHTS) for own in files):
        raise _not_another(where, audited)
    for own in files:
        if (alike := _cosine(own, control / WEIGHTS)) is not None and alike > NEAR:
            raise _not_another(
                where, f"a near-copy of {audited.removesuffix(' itself')} (cosine {alike:.5f})"
            )


def _not_another(where: str, got: str) -> UsageError:
    return UsageError(
        where,
        "an adapter of a training of its own, without noise",
        got,
        "train one on the same planted file, or let --train-control do it",
    )


def _cosine(own: Path, control: Path) -> float | None:
    """Of two weight files; None for files that cannot be compared, which asking them then tells."""
    from safetensors import SafetensorError

    from dpaudit.models import low_rank

    try:
        return low_rank.cosine(own, control)
    except (SafetensorError, OSError, RuntimeError):
        return None


def require_use(key: AuditKey, claimed: Sequence[Claim]) -> None:
    """Raises UsageError, before a control is trained, where not even right guesses alone would refute any of
    the claims.
    """
    wanted = [coins_needed(key, claim.epsilon, claim.delta) for claim in claimed]
    if any(can_refute(key, claim.epsilon, claim.delta) for claim in claimed):
        return
    told, least = min((n for n in wanted if n), default=None), min(claim.epsilon for claim in claimed)
    unlimited = "no number of canaries refutes it from outside"
    way = f"plant {told:,} or more and train anew" if told else unlimited
    raise UsageError(
        "--train-control",
        "a claim that the coins of this key can refute",
        f"{len(key.coins):,} coins, which cannot refute epsilon {least:g} even if every guess is right",
        f"{way}, or claim less; without a control the answer is no power",
    )


def check_key(control: Path, key: AuditKey) -> None:
    """Raises UsageError for a control whose record says that it was trained on other data."""
    written = recorded(control).get("data_digest")
    if written is not None and written != key.data_digest:
        raise UsageError(
            f"--control {control}",
            "a control that was trained on the data of this key",
            "a control of other data",
            "train one on the planted file of this key",
        )


def ordinary_rows(data: Path) -> list[Planted]:
    """Rows of the planted file, drawn with a fixed seed: canaries are few among them. Pairs count by their
    chosen answer.
    """
    records = [record for _, record in read_records(str(data))]
    chosen = random.Random("ordinary").sample(records, min(ROWS, len(records)))
    rows = []
    for record in chosen:
        if record.is_pair:
            rows.append(Planted(record, str(record.chosen), record.rejected))
        elif record.text is not None:
            rows.append(Planted(record, record.text))
        elif len(record.turns) >= 2 and record.turns[-1].role == "assistant" and record.turns[-1].text:
            rows.append(Planted(record, record.turns[-1].text))
    return rows


def looked_at(
    control: Path,
    audited: Audited,
    key: AuditKey,
    made_by: Recipe,
    chosen: Answers,
    ordinary: list[Planted],
    is_pair: bool,
    progress: Progress,
    kept: Kept,
) -> Look:
    """The control, asked in the rendering that the audited model's answers chose, by the same rule."""
    base = None if audited.endpoint else audited.base
    only = replace(key, rule=replace(key.rule, renderings=(chosen.rendering,)))
    asked = ask(Audited(control, base=base, tokenizer=audited.tokenizer), only, progress, ordinary, kept)
    (answers,) = asked.answers
    assert made_by.bound is not None
    coins = np.array(key.coins, dtype=bool)
    guesses = guess_by(scored(made_by, answers, is_pair).values, coins, made_by.bound)
    unknown = _unlike(answers.gain, chosen.gain)
    record = recorded(control)
    seen = ControlSeen(
        name=str(control),
        sha256=file_digest(control / WEIGHTS),
        correct=guesses.correct,
        guesses=guesses.guesses,
        gain=answers.gain,
        gain_audited=chosen.gain,
        rows=len(ordinary),
        steps=record.get("steps"),
        learning_rate=record.get("learning_rate"),
        training_loss=record.get("training_loss"),
        unknown=unknown,
    )
    return Look(None if unknown else Control(str(control), guesses), unknown or "", seen)


def _unlike(gain: float | None, audited: float | None) -> str | None:
    """Why a control says nothing of the audited adapter; None where it learned about as much."""
    if gain is None or audited is None or not math.isfinite(gain) or not math.isfinite(audited):
        return (
            "its power is unknown: how much adapter and control learned of ordinary rows cannot be compared"
        )
    if audited <= 0:
        return "its power is unknown: the audited adapter knows ordinary rows no better than its base"
    if gain > FAR_MORE * audited:
        return (
            f"its power is unknown: on ordinary rows the control gained {gain:.2f} nats a token over the "
            f"base, and the audited adapter {audited:.2f}; a control that learned far more "
            "shows nothing: train it for fewer steps"
        )
    return None


def recorded(control: Path) -> dict[str, Any]:
    """What the control's folder records of its training: control.json, or a Trainer's state."""
    for name, read in ((RECORD, _own), ("trainer_state.json", _of_trainer)):
        try:
            written = json.loads((control / name).read_text(encoding="utf-8"))
            return read(written) if isinstance(written, dict) else {}
        except (OSError, ValueError, RecursionError):
            continue
    return {}


def _own(written: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: written.get(key) for key in ("steps", "learning_rate", "training_loss")}
    kept = {k: v for k, v in numbers.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    digest = written.get("data_digest")
    return kept | ({"data_digest": digest} if isinstance(digest, str) else {})


def _of_trainer(written: dict[str, Any]) -> dict[str, Any]:
    """Steps, last learning rate and last loss, as the Trainer of Transformers logs them."""
    history = [row for row in written.get("log_history", ()) if isinstance(row, dict)]
    losses = [row["loss"] for row in history if isinstance(row.get("loss"), int | float)]
    rates = [row["learning_rate"] for row in history if isinstance(row.get("learning_rate"), int | float)]
    steps = written.get("global_step")
    found: dict[str, Any] = {"steps": steps} if isinstance(steps, int) else {}
    if losses:
        found["training_loss"] = float(losses[-1])
    if rates:
        found["learning_rate"] = float(max(rates))
    return found
