"""The key of a run's seals: where it lies, and whether what is written now fits what was sealed before."""

import json
import secrets
from pathlib import Path

from dpaudit.errors import UsageError
from dpaudit.storage import custody
from dpaudit.storage.custody import RELEASE, SEAL_KEY, SEAL_LOST


def seal_key(run: Path) -> bytes | None:
    """The key of a run's seals; None where it is missing or given up: then hashes are checked and seals
    are not.

    Raises UsageError for a broken one.
    """
    path = run / SEAL_KEY
    if (run / SEAL_LOST).exists():
        return None
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(key) != custody.KEY_BYTES:
        raise UsageError(
            str(path),
            f"a key of {custody.KEY_BYTES} bytes",
            f"{len(key)} bytes",
            "restore it from a copy; without it seals cannot be checked",
        )
    return key


def sealed_under(run: Path, relative: str) -> str | None:
    """The id of the key that a JSON output names; None where it names none, or cannot be read."""
    try:
        key = json.loads((run / relative).read_text(encoding="utf-8"))[custody.KEY]["key"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return key if isinstance(key, str) else None


def is_sealable(run: Path) -> bool:
    """Whether new files fit the earlier ones: not where those are sealed and the key is missing."""
    if seal_key(run) is not None or (run / SEAL_LOST).exists():
        return True
    sealed = ("corpus/manifest.json", RELEASE, "custody/records/chain.json")
    return not any(sealed_under(run, relative) for relative in sealed)


def require_sealable(run: Path) -> None:
    """Raises UsageError where what is written now would be refused once the key is back."""
    if not is_sealable(run):
        raise UsageError(
            str(run / SEAL_KEY),
            "the key that this run's files are sealed under",
            "no such file",
            "put it back; if it is lost for good, make an empty file "
            f"{run / SEAL_LOST}, and the run continues without seals",
        )


def write_seal_key(file: Path) -> None:
    """Makes a new key."""
    file.parent.mkdir(mode=0o700)
    file.touch(mode=0o600)
    file.write_bytes(secrets.token_bytes(custody.KEY_BYTES))
