"""The key of planted canaries: coins, secrets and the guess rule, all fixed before training. Never part of
the data.
"""

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError, unread
from dpaudit.planting.visibility import Visibility
from dpaudit.schema import Count, build
from dpaudit.signals.recipe import Recipe
from dpaudit.storage import custody
from dpaudit.storage.custody import keyed_file_digest

VERSION = 2
UNFAIR = 1e-6  # p-value below which coins count as not fair and independent
PlantedUnit = Literal["record", "patient", "pair"]


@dataclass(frozen=True)
class Planted:
    """One canary: the content of its row, and the secret at the end of its answer. Its coin is not here."""

    record: Record  # a dialogue, a pair or plain text, as the data's own reader reads the planted row
    secret: str
    rejected: str | None = None  # the secret of the rejected answer, of a pair


@dataclass(frozen=True)
class HeldOut:
    """One unit of the data whose coin decided whether its rows stay: no text, and not its coin.

    `rows` are the places of all its rows in the file before planting, from 1; the answer of `scored` counts.
    """

    rows: tuple[int, ...]
    scored: int
    digest: str  # HMAC of its records, in this order, under the key's `hash_key`


@dataclass(frozen=True)
class Rule:
    """How coins will be guessed: `guesses` of them, as the recipe says; no other coin is guessed.

    `without_base` gives the scores where no base model is available. Scores are those of the rendering in
    which training left the clearest trace on all canaries; this choice needs no coin.
    """

    primary: Recipe
    without_base: Recipe
    guesses: int
    renderings: tuple[str, ...]


@dataclass(frozen=True)
class AuditKey:
    unit: PlantedUnit
    family: str
    shape: str  # of the data, as its reader names it
    rows: int  # of the planted file
    rule: Rule
    canaries: tuple[Planted, ...]
    coins: tuple[bool, ...]  # one a canary, True = in
    data_digest: str  # HMAC of the planted file under `hash_key`
    hash_key: str  # hexadecimal
    salt: str  # of the commitment, hexadecimal
    visibility: Visibility | None = None  # of all canaries, in or out; None where the file has too few rows
    bits: Count = 0  # of the secret that is easiest to guess: of its draw, in binary logarithms
    taken: str = ""  # what the planted rows took from the data
    held_out: tuple[HeldOut, ...] = ()  # instead of canaries: one a coin, True = its rows stayed
    version: int = VERSION


def write(key: AuditKey, path: Path) -> None:
    """Writes the key, readable by its owner alone, with a seal over all of it. `path` must not exist yet."""
    data = _plain(asdict(key))
    data["rule"]["primary_digest"] = key.rule.primary.digest
    text = json.dumps({**data, "seal": _seal(data)}, ensure_ascii=False, indent=1) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def load(path: Path) -> AuditKey:
    """The key in a file. Raises UsageError in one line for a key that is edited or of another version, and
    for a file that is no key.
    """
    expected = "the key that `dpaudit plant` wrote"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unread(f"--key {path}", expected, error) from None
    except (ValueError, RecursionError):
        raise UsageError(f"--key {path}", expected, "a file that is not JSON") from None
    if not isinstance(data, dict) or not {"version", "seal", "hash_key"} <= set(data):
        raise UsageError(f"--key {path}", expected, "a file of another kind")
    if data["version"] != VERSION:
        raise UsageError(
            f"--key {path}",
            f"a key of version {VERSION}",
            "a key of another version",
            "verify with the dpaudit that planted",
        )
    try:
        return _built(data)
    except (
        _NoKeyError,
        UsageError,
        RecursionError,
        UnicodeEncodeError,
    ):  # the error is not quoted: it may hold secrets
        raise UsageError(
            f"--key {path}",
            "a key as `dpaudit plant` wrote it",
            "an edited or broken key",
            "restore it from a copy",
        ) from None


def units_of(key: AuditKey) -> tuple[Planted, ...] | tuple[HeldOut, ...]:
    """What the coins of the key were thrown for."""
    return key.held_out or key.canaries


def commitment(key: AuditKey) -> str:
    """The commitment that `plant` printed: the hash of the salt and all else that is in the key."""
    data = _plain(asdict(key))
    salt = data.pop("salt")
    return custody.commitment(salt, data)


def check(key: AuditKey, path: Path, data: Path | None = None) -> None:
    """Raises UsageError where the key cannot support a bound: not its `data`, too few canaries, coins that
    are not fair.
    """
    count, least = len(key.coins), key.rule.primary.minimum_canaries
    if count < least:
        raise UsageError(
            f"--key {path}",
            f"at least {least} canaries",
            str(count),
            f"plant with --canaries {least} or more",
        )
    unlikely = unfair(key.coins)
    if unlikely:
        raise UsageError(
            f"--key {path}",
            "independent fair coins",
            unlikely,
            "a bound holds for fair coins only; plant again",
        )
    if data is not None and keyed_file_digest(data, bytes.fromhex(key.hash_key)) != key.data_digest:
        raise UsageError(
            f"--key {path}",
            f"the key that `dpaudit plant` wrote together with {data}",
            "the key of another file",
            "give as --data the planted file of this key, unchanged, or its own key for this file",
        )


def unfair(coins: tuple[bool, ...]) -> str:
    """The evidence that coins were not fair and independent; empty without any.

    Of fair coins both the heads and the changes from one coin to the next are binomial with chance one half.
    """
    from scipy.stats import binomtest

    heads = sum(coins)
    changes = sum(a != b for a, b in pairwise(coins))
    if binomtest(heads, len(coins)).pvalue < UNFAIR:
        return f"{heads} of {len(coins)} canaries planted"
    if len(coins) > 1 and binomtest(changes, len(coins) - 1).pvalue < UNFAIR:
        return f"{changes} changes between {len(coins)} successive coins"
    return ""


def new_hash_key() -> bytes:
    return secrets.token_bytes(32)


class _NoKeyError(Exception):
    """The content of a file is not that of a key."""


def _built(data: dict[str, Any]) -> AuditKey:
    """The key of sealed data, every value of its own type. Whoever holds a key can seal it, so the seal
    proves no value.
    """
    seal, rule = data.pop("seal"), data.get("rule")
    if not isinstance(seal, str) or not hmac.compare_digest(seal.encode(), _seal(data).encode()):
        raise _NoKeyError
    json.dumps(data, ensure_ascii=False).encode()  # raises for half a character
    digest = rule.pop("primary_digest", None) if isinstance(rule, dict) else None
    key = build(AuditKey, data, file="key")
    if not (
        _is_rule(key.rule, len(units_of(key))) and digest == key.rule.primary.digest and _hexadecimal(data)
    ):
        raise _NoKeyError
    if len(units_of(key)) != len(key.coins) or len({canary.record.part for canary in key.canaries}) > 1:
        raise _NoKeyError
    if key.held_out and (key.canaries or not _are_units(key.held_out, key.unit)):
        raise _NoKeyError
    if not all(_is_canary(canary, key.unit) for canary in key.canaries):
        raise _NoKeyError
    return key


def can_be_asked(made_by: Recipe) -> bool:
    """Whether a recipe needs no more than log-probabilities of a text under the model and its base: `verify`
    asks for no more.
    """
    if made_by.kind != "mia" or made_by.access not in ("logprobs", "distribution") or made_by.bound is None:
        return False
    signal = made_by.make_signal()
    needs_more = getattr(signal, "evidence", None) or made_by.needs_heldout or made_by.components()
    return not needs_more and made_by.reference in ("none", "base")


def _is_rule(rule: Rule, canaries: int) -> bool:
    if (
        not can_be_asked(rule.primary)
        or not can_be_asked(rule.without_base)
        or rule.without_base.reference != "none"
    ):
        return False
    assert rule.primary.bound is not None
    return rule.guesses == rule.primary.bound.guess.count(canaries) and bool(rule.renderings)


def _are_units(units: tuple[HeldOut, ...], unit: PlantedUnit) -> bool:
    """Whether each has rows of its own, one unless it is a patient's."""
    rows = [row for held in units for row in held.rows]
    if len(set(rows)) < len(rows) or min(rows, default=0) < 1:
        return False
    return all(
        held.scored in held.rows
        and is_hexadecimal(held.digest)
        and (unit == "patient" or len(held.rows) == 1)
        for held in units
    )


def _is_canary(canary: Planted, unit: PlantedUnit) -> bool:
    """Whether its secrets stand in its answers, and the answers where its kind has them."""
    record, rejected = canary.record, canary.rejected
    if record.is_pair:
        answers = ((record.chosen, canary.secret), (record.rejected, rejected))
        return bool(record.turns) and all(secret and text and secret in text for text, secret in answers)
    if unit == "pair" or rejected is not None or record.rejected is not None:
        return False
    if record.text is not None:
        return not record.turns and bool(canary.secret) and canary.secret in record.text
    has_question = len(record.turns) >= 2 and record.turns[-1].role == "assistant"
    return has_question and bool(canary.secret) and canary.secret in record.turns[-1].text


def _seal(data: dict[str, Any]) -> str:
    """HMAC of everything in the key: it detects accidents, not a forger, who has the key as well."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=True)
    return hmac.new(bytes.fromhex(_hexadecimal(data)), text.encode(), hashlib.sha256).hexdigest()


def _hexadecimal(data: dict[str, Any]) -> str:
    hash_key = data.get("hash_key")
    return hash_key if isinstance(hash_key, str) and is_hexadecimal(hash_key) else ""


def is_hexadecimal(text: str) -> bool:
    """Whether it is a key or digest of 256 bits."""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
