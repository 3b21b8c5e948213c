"""A ledger beside weights that somebody wants to use: found, and checked before it is believed."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.privacy import accountants
from dpaudit.privacy.claim import EPSILON_SLACK
from dpaudit.privacy.ledger import FILE, Ledger, digest
from dpaudit.storage import custody

KEY = "dpaudit_ledger"  # of a merged model's config.json: the SHA-256 of its ledger
ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# Of an adapter's settings: where the base lies, which PEFT wrote them and how it opens them. All others act.
_PASSIVE = {"base_model_name_or_path", "revision", "inference_mode", "peft_version", "runtime_config"}
PUBLIC_MERGE = (
    f"; a public merge left it beside its folder, as NAME-HASH.{FILE}: copy it here as {FILE}, or ask who "
    "merged the model for it"
)
_COPIES = (
    "restore weights, settings and ledger from one copy; `dpaudit show --adapter DIR` tells which arm "
    "an adapter is"
)


def find(folder: Path) -> Ledger | None:
    """The checked ledger of an adapter folder, of a run's train/ARM or of a merged model; None where there is
    none.

    An adapter's ledger may lie in the folder above it. Raises UsageError where a ledger is named and not
    there, is not the one that config.json names, is of other weights or settings, stops before the last step,
    records less epsilon than its mechanism and stages spend, or claims less than it records.
    """
    named = _named(folder)
    file = next((file for file in _places(folder) if file.is_file()), None)
    if file is None:
        if named is None and not _trained_here(folder):
            return None
        raise UsageError(
            str(folder / FILE),
            "the ledger that the model was written with",
            "no such file",
            "restore it beside the weights" + (PUBLIC_MERGE if named is not None else ""),
        )
    if named is not None and digest(file) != named:
        raise UsageError(
            str(file),
            f"the ledger that config.json names ({KEY})",
            "an edited or exchanged ledger",
            "restore the one that was written with the model",
        )
    ledger = read(file)
    _check_spent(ledger)
    _check_claim(ledger)
    _check_weights(folder, ledger)
    return ledger


def _check_weights(folder: Path, ledger: Ledger) -> None:
    """Raises UsageError where a ledger that names its weights, or an adapter's settings, lies beside
    others.
    """
    adapter = next((place for place in (folder, folder / "adapter") if (place / ADAPTER).is_file()), None)
    known: dict[Path, object] = {}
    files: set[Path] = set()
    if ledger.weights is not None and (folder / "config.json").is_file():
        known = {folder / str(name): sha for name, sha in ledger.weights.items()}
        files = {*folder.glob("*.safetensors"), *known}
    elif adapter is not None:
        _check_settings(adapter, ledger)
        if ledger.adapter_sha256 is not None:
            known, files = {adapter / ADAPTER: ledger.adapter_sha256}, {adapter / ADAPTER}
    expected = f"the weights that {ledger.file} was written for"
    for file in sorted(files):
        if not file.is_file():
            raise UsageError(str(file), expected, "no such file", _COPIES)
        if custody.file_digest(file) != known.get(file):
            raise UsageError(str(file), expected, "other weights", _COPIES)


def no_adapter(folder: Path, needed: str) -> UsageError:
    """The error for a folder that is named as an adapter and lacks a file of one: a merged model names its
    origin.
    """
    where, expected = f"--adapter {folder}", f"an adapter's folder, with {needed}"
    if not folder.is_dir():
        return UsageError(where, expected, "no such folder", "check the path")
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        return UsageError(
            where,
            expected,
            f"a folder without {needed}",
            "name the folder that the trainer saved the adapter in",
        )
    ledger = find(folder)
    origin = ledger.merged_from if ledger else None
    if origin is None:
        return UsageError(where, expected, "a whole model", "name the adapter that was trained on it")
    run = f" of run {origin['run']}" if origin.get("run") else ""
    got = (
        f"a merged model, whose {FILE} says: of {origin.get('arm') or origin.get('adapter')}{run}, adapter "
        f"SHA-256 {origin.get('adapter_sha256')}"
    )
    return UsageError(where, expected, got, "name that adapter's folder, in a run train/ARM/adapter")


def _check_settings(adapter: Path, ledger: Ledger) -> None:
    if ledger.settings_sha256 is not None and settings_digest(adapter) != ledger.settings_sha256:
        expected = f"the settings that {ledger.file} was written for"
        raise UsageError(str(adapter / CONFIG), expected, "other settings", _COPIES)


def settings_digest(adapter: Path) -> str:
    """The SHA-256 of those settings of an adapter folder that act: its scaling, ranks, layers and kind among
    them.
    """
    acting = {name: value for name, value in _json(adapter / CONFIG).items() if name not in _PASSIVE}
    return hashlib.sha256(custody.canonical(acting)).hexdigest()


def require_base(ledger: Ledger, base: str, now: Mapping[str, str]) -> None:
    """Raises UsageError where an adapter's ledger names other files of its base than those `now` of `base`.

    A base without any here is not compared: it cannot be loaded.
    """
    then = ledger.base_files
    if not then or not now:
        return
    wrong = next((name for name in sorted({*then, *now}) if then.get(name) != now.get(name)), None)
    if wrong is not None:
        raise UsageError(
            str(ledger.file),
            "the base that the adapter was trained on",
            f"{base} with another {wrong}" if wrong in now else f"{base} without {wrong}",
            "restore that model, or give the right one with --model",
        )


def unnamed(ledger: Ledger) -> tuple[str, ...]:
    """The parts of its model that a ledger does not name, so that nothing ties it to that model."""
    if ledger.weights is not None:  # of a merged model
        return ()
    named = {
        "weights": ledger.adapter_sha256,
        "settings": ledger.settings_sha256,
        "base": ledger.base_files,
    }
    return tuple(kind for kind, value in named.items() if not value)


def _places(folder: Path) -> list[Path]:
    """Beside the weights; for an adapter also one folder up, where a run keeps it."""
    above = (folder / "adapter_config.json").is_file()
    return [folder / FILE, *([folder.absolute().parent / FILE] if above else [])]


def _trained_here(folder: Path) -> bool:
    """Whether this is an arm of a run (or the adapter in it): the stage that made it writes a ledger."""
    arms = [folder] if (folder / "adapter").is_dir() else []
    if (folder / "adapter_config.json").is_file():
        arms.append(folder.absolute().parent)
    return any((arm / "train.json").is_file() for arm in arms)


def _named(folder: Path) -> str | None:
    config = folder / "config.json"
    named = _json(config).get(KEY) if config.is_file() else None
    return None if named is None else str(named)


def read(file: Path) -> Ledger:
    """The ledger in a file that is unaltered and covers all steps; its epsilon is not recomputed here."""
    data = _json(file)
    wrong = custody.fault(data, "", None) if custody.KEY in data or "adapter_sha256" in data else None
    if wrong is not None:  # seals are the run's to check
        raise UsageError(str(file), "the ledger as training wrote it", wrong, "restore it from a copy")
    ledger = Ledger.from_json(data, file)
    if ledger.mechanism and ledger.steps_done != ledger.mechanism.steps:
        raise UsageError(
            str(file),
            f"a ledger of all {ledger.mechanism.steps} steps",
            f"a ledger of {ledger.steps_done} steps",
            "finish the training, or keep the ledger of its end",
        )
    return ledger


def _check_spent(ledger: Ledger) -> None:
    """Raises UsageError where the ledger records less epsilon than what it describes spends."""
    if math.isinf(ledger.epsilon):
        return
    if not _spent(ledger) <= ledger.epsilon * EPSILON_SLACK:
        raise UsageError(
            str(ledger.file),
            "at least the epsilon that its mechanism and stages spend",
            f"{ledger.epsilon:.4g}",
            "restore the ledger as training wrote it",
        )


def _check_claim(ledger: Ledger) -> None:
    """Raises UsageError where the ledger claims less epsilon than it records as spent."""
    if not ledger.claim.covers(ledger.epsilon):
        raise UsageError(
            str(ledger.file),
            f"at most the claimed epsilon {ledger.claim.epsilon:g} as epsilon_pld",
            f"{ledger.epsilon:.4g}",
            "restore the ledger as training wrote it",
        )


def _spent(ledger: Ledger) -> float:
    claim = ledger.claim
    if ledger.mechanism is not None:
        return accountants.epsilon_spent(ledger.mechanism, claim.delta, claim.relation)
    probability = ledger.flip_probability
    is_exact = claim.unit == "label" and 0 < probability <= 0.5 and not ledger.data.get("stages")
    return math.log((1 - probability) / probability) if is_exact else math.inf


def _json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # JSON and Unicode errors are ValueErrors
        data = None
    if not isinstance(data, dict):
        raise UsageError(
            str(file), "a JSON object", "another content or an unreadable file", "restore it from a copy"
        )
    return data
