"""The key of an observed training: coins and the seed of the axes, fixed before the first step."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit import schema
from dpaudit.errors import UsageError, unread
from dpaudit.schema import Count
from dpaudit.storage import custody

FORMAT = "observed-key/1"
AXES_LEAST = 20  # with fewer, all coins may well fall on one side
EXPECTED = "the key that dpaudit.observe wrote"


@dataclass(frozen=True)
class ObservedKey:
    """Whoever has it knows which canaries were in the training."""

    rows: Count  # of the data set, without canaries
    coins: tuple[bool, ...]  # one an axis, True = its row is in
    axes_seed: str  # hexadecimal
    salt: str  # of the commitment, hexadecimal

    @property
    def included(self) -> NDArray[np.bool_]:
        return np.array(self.coins, dtype=bool)

    @property
    def commitment(self) -> str:
        """Names the key and reveals no coin: noted down before training, it shows that none was changed."""
        data = asdict(self)
        return custody.commitment(data.pop("salt"), schema.plain(data))


def draw(rows: int, axes: int, seed: int | None = None) -> ObservedKey:
    """A key with fair coins, from generators of its own. A `seed` makes coins that anybody can draw again.

    Raises UsageError for a number of axes that no test can use.
    """
    if axes != 0 and axes < AXES_LEAST:
        raise UsageError(
            "dpaudit.observe: axes",
            f"0, or {AXES_LEAST} or more",
            str(axes),
            "300 see half of the noise missing",
        )
    generator = np.random.default_rng(seed)
    coins = tuple(bool(coin) for coin in generator.random(axes) < 0.5)
    hexadecimal = secrets.token_hex if seed is None else lambda size: generator.bytes(size).hex()
    return ObservedKey(rows, coins, hexadecimal(16), hexadecimal(16))


def write(key: ObservedKey, path: Path) -> None:
    """Writes the key, readable by its owner alone. Raises UsageError where `path` exists or cannot be
    made.
    """
    text = json.dumps({"format": FORMAT, **schema.plain(key), "commitment": key.commitment}) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"dpaudit.observe: key {path}",
            "a file that is not there yet",
            "a folder" if path.is_dir() else "a file",
            "name another, or delete it with its record: a new training has new coins",
        ) from None
    except OSError as error:
        raise unread(f"dpaudit.observe: key {path}", "a file that can be written", error) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def load(path: Path) -> ObservedKey:
    """The key in a file. Raises UsageError in one line for a file that is none, or that was edited."""
    where = f"--key {path}"
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unread(where, EXPECTED, error) from None
    except (ValueError, RecursionError):
        raise UsageError(where, EXPECTED, "a file that is not JSON") from None
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        got = (
            "the key that `dpaudit plant` wrote"
            if isinstance(data, dict) and "seal" in data
            else "another file"
        )
        raise UsageError(where, EXPECTED, got, "name the key of this training")
    commitment = data.pop("commitment", None)
    try:
        key = schema.build(ObservedKey, data, file=str(path))
        if key.commitment == commitment:
            return key
    except (UsageError, ValueError):
        pass  # the error is not quoted: it may hold coins
    raise UsageError(where, EXPECTED, "an edited or broken key", "restore it from a copy")
