"""The privacy ledger of a model that somebody wants to use: found beside its weights, and checked before it
is believed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.privacy import mechanism
from dpaudit.privacy.claim import Claim, Relation, Unit
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.storage import custody

FILE = "privacy.json"
KEY = "dpaudit_ledger"  # of a merged model's config.json: the SHA-256 of its ledger
ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
SETTINGS = "adapter_settings_sha256"
BASE = "base_files"  # file -> SHA-256
# Of an adapter's settings: where the base lies, which PEFT wrote them and how it opens them. All others act.
_PASSIVE = {"base_model_name_or_path", "revision", "inference_mode", "peft_version", "runtime_config"}
_COPIES = (
    "restore weights, settings and ledger from one copy; `dpaudit show --adapter DIR` tells which arm "
    "an adapter is"
)
_EPSILON_ABOVE = (
    1.001  # recomputed over recorded, recorded over claimed; the accountant's own error is a tenth of that
)


@dataclass(frozen=True)
class Ledger:
    """What a model spent, as its checked privacy.json says. `mechanism` carries the stages before it.

    Where nothing is private the mechanism has no noise and `epsilon` is infinite. It is None for labels that
    went through randomised response, which is not composed with anything here.
    """

    file: Path
    data: dict[str, Any]
    mechanism: Mechanism | None
    epsilon: float  # nats, recorded; covers the stages
    delta: float
    unit: Unit
    relation: Relation

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """All stages, the last one last, each without the stages before it."""
        return flat(self.mechanism) if self.mechanism else ()


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
            "restore it beside the weights",
        )
    if named is not None and digest(file) != named:
        raise UsageError(
            str(file),
            f"the ledger that config.json names ({KEY})",
            "an edited or exchanged one",
            "restore the one that was written with the model",
        )
    found = _read(file)
    _check(found)
    _check_claim(found)
    _check_weights(folder, found)
    return found


def _check_weights(folder: Path, found: Ledger) -> None:
    """Raises UsageError where a ledger that names its weights, or an adapter's settings, lies beside others.

    An adapter's ledger has `adapter_sha256` and the settings' hash, a merged model's `weights`: path ->
    SHA-256.
    """
    merged = found.data.get("weights")
    named = found.data.get("adapter_sha256")
    adapter = next((place for place in (folder, folder / "adapter") if (place / ADAPTER).is_file()), None)
    known: dict[Path, object] = {}
    files: set[Path] = set()
    if isinstance(merged, dict) and (folder / "config.json").is_file():
        known = {folder / str(name): sha for name, sha in merged.items()}
        files = {*folder.glob("*.safetensors"), *known}
    elif adapter is not None:
        _check_settings(adapter, found)
        if isinstance(named, str):
            known, files = {adapter / ADAPTER: named}, {adapter / ADAPTER}
    for file in sorted(files):
        if not file.is_file():
            raise UsageError(
                str(file), f"the weights that {found.file} was written for", "no such file", _COPIES
            )
        if custody.file_digest(file) != known.get(file):
            raise UsageError(str(file), f"the weights that {found.file} was written for", "others", _COPIES)


def no_adapter(folder: Path, needed: str) -> UsageError:
    """The error for a folder that is named as an adapter and lacks a file of one: a merged model tells where
    it came from.
    """
    where, expected = f"--adapter {folder}", f"an adapter's folder, with {needed}"
    if not folder.is_dir():
        return UsageError(where, expected, "no such folder", "check the path")
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        return UsageError(
            where, expected, "none in it", "name the folder that the trainer saved the adapter in"
        )
    found = find(folder)
    origin = found.data.get("merged_from") if found else None
    if not isinstance(origin, dict):
        return UsageError(where, expected, "a whole model", "name the adapter that was trained on it")
    run = f" of run {origin['run']}" if origin.get("run") else ""
    got = (
        f"a merged model, whose {FILE} says: of {origin.get('arm') or origin.get('adapter')}{run}, adapter "
        f"SHA-256 {origin.get('adapter_sha256')}"
    )
    return UsageError(where, expected, got, "name that adapter's folder, in a run train/ARM/adapter")


def _check_settings(adapter: Path, found: Ledger) -> None:
    named = found.data.get(SETTINGS)
    if isinstance(named, str) and settings_digest(adapter) != named:
        raise UsageError(
            str(adapter / CONFIG), f"the settings that {found.file} was written for", "others", _COPIES
        )


def settings_digest(adapter: Path) -> str:
    """The SHA-256 of those settings of an adapter folder that act: its scaling, ranks, layers and kind among
    them.
    """
    acting = {name: value for name, value in _json(adapter / CONFIG).items() if name not in _PASSIVE}
    return hashlib.sha256(custody.canonical(acting)).hexdigest()


def require_base(found: Ledger, base: str, now: Mapping[str, str]) -> None:
    """Raises UsageError where an adapter's ledger names other files of its base than those `now` of `base`.

    A base without any here is not compared: it cannot be loaded.
    """
    then = found.data.get(BASE)
    if not isinstance(then, dict) or not then or not now:
        return
    wrong = next((name for name in sorted({*then, *now}) if then.get(name) != now.get(name)), None)
    if wrong is not None:
        raise UsageError(
            str(found.file),
            "the base that the adapter was trained on",
            f"{base} with another {wrong}" if wrong in now else f"{base} without {wrong}",
            "restore that model, or give the right one with --model",
        )


def unnamed(found: Ledger) -> tuple[str, ...]:
    """What a ledger does not name of the model that it is of, so that nothing shows whose it is."""
    if isinstance(found.data.get("weights"), dict):  # of a merged model
        return ()
    kinds = {
        "weights": isinstance(found.data.get("adapter_sha256"), str),
        "settings": isinstance(found.data.get(SETTINGS), str),
        "base": isinstance(found.data.get(BASE), dict) and bool(found.data[BASE]),
    }
    return tuple(name for name, told in kinds.items() if not told)


def digest(file: Path) -> str:
    """The SHA-256 of a ledger's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def flat(mechanism: Mechanism) -> tuple[Mechanism, ...]:
    """A mechanism and its stages as single stages in the order that they were spent in."""
    alone = Mechanism(
        mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps, clip=mechanism.clip
    )
    return (*(one for stage in mechanism.stages for one in flat(stage)), alone)


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


def _read(file: Path) -> Ledger:
    data = _json(file)
    if (custody.KEY in data or "adapter_sha256" in data) and (
        wrong := custody.fault(data, "", None)
    ) is not None:  # seals are the run's to check
        raise UsageError(str(file), "the ledger as training wrote it", wrong, "restore it from a copy")
    data.pop(custody.KEY, None)
    try:
        claim, steps = data["claim"], int(data["steps_done"])
        mechanism = (
            None if _flips(data) else _mechanism(data["mechanism"] | {"stages": data.get("stages", ())})
        )
        # delta is 0 under randomised response and an infinite epsilon is no claim; the rest is checked all
        # the same
        Claim(float(claim["epsilon"]), claim["delta"] if mechanism else 0.5, claim["unit"], claim["relation"])
        found = Ledger(
            file,
            data,
            mechanism,
            float(data["epsilon_pld"]),
            claim["delta"],
            claim["unit"],
            claim["relation"],
        )
    except KeyError as error:
        raise UsageError(str(file), f"a privacy ledger with the key {error}", "none") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(str(file), "a privacy ledger", f"{error!s:.120}") from None
    if mechanism and steps != mechanism.steps:
        raise UsageError(
            str(file),
            f"a ledger of all {mechanism.steps} steps",
            f"one of {steps}",
            "finish the training, or keep the ledger of its end",
        )
    return found


def _flips(data: dict[str, Any]) -> bool:
    return "flip_probability" in data["mechanism"]


def _mechanism(found: dict[str, Any]) -> Mechanism:
    clip = math.inf if found["clip"] is None else found["clip"]
    earlier = tuple(_mechanism(stage) for stage in found.get("stages", ()))
    return Mechanism(found["noise_multiplier"], found["sampling_rate"], found["steps"], clip, earlier)


def _check(found: Ledger) -> None:
    """Raises UsageError where the ledger records less epsilon than what it describes spends."""
    if math.isinf(found.epsilon):
        return
    spent = _spent(found)
    if not spent <= found.epsilon * _EPSILON_ABOVE:
        raise UsageError(
            str(found.file),
            "at least the epsilon that its mechanism and stages spend",
            f"{found.epsilon:.4g}",
            "restore the ledger as training wrote it",
        )


def _check_claim(found: Ledger) -> None:
    """Raises UsageError where the ledger claims less epsilon than it records as spent, at the claim's
    delta.
    """
    claimed = float(found.data["claim"]["epsilon"])
    if not found.epsilon <= claimed * _EPSILON_ABOVE:
        raise UsageError(
            str(found.file),
            f"at most the claimed epsilon {claimed:g} as epsilon_pld",
            f"{found.epsilon:.4g}",
            "restore the ledger as training wrote it",
        )


def _spent(found: Ledger) -> float:
    if found.mechanism is not None:
        return mechanism.epsilon_spent(found.mechanism, found.delta, found.relation)
    probability = float(found.data["mechanism"]["flip_probability"])
    alone = found.unit == "label" and 0 < probability <= 0.5 and not found.data.get("stages")
    return math.log((1 - probability) / probability) if alone else math.inf


def _json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # JSON and Unicode errors are ValueErrors
        data = None
    if not isinstance(data, dict):
        raise UsageError(
            str(file), "a JSON object", "something else or an unreadable file", "restore it from a copy"
        )
    return data
