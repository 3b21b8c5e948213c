"""Custody: whether a file is as it was written, and in the place that it was written for.

Every JSON output carries the SHA-256 of its own content and a seal over that hash and its place, an HMAC
under the run's `custody/seal.key`. The key lies apart from the coins, so that stages that may not read coins
check seals all the same. A seal shows accidents, and edits by people without the key. The trainer holds
the key, and only the commitment binds the trainer.
"""

import hashlib
import hmac
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError, unread

KEY = "custody"  # of a JSON output and of a Parquet file's metadata
KEY_BYTES = 32
SEAL_KEY = "custody/seal.key"
SEAL_LOST = "custody/seal.lost"  # made by hand where the key is lost for good: then nothing is sealed
RELEASE = "custody/release.json"  # says that coins were drawn: new coins would be a second release
NOT_COMPARED = "not compared: --commitment HEX compares it with what you noted down before the training"
ANOTHER = (
    "another: plan, recipes or coins are not those that were committed to, so nothing found with them counts"
)


@dataclass(frozen=True)
class Stamp:
    """What an output says of itself: the hash of its content, and who sealed it. No seal where there was no
    key.
    """

    sha256: str
    seal: str | None
    key: str | None  # an id of the seal key, which reveals nothing of the key


def stamp(content: Any, place: str, key: bytes | None) -> Stamp:
    """The stamp of an output's content (without a stamp) at `place`, its path in the run."""
    digest = hashlib.sha256(canonical(content)).hexdigest()
    return Stamp(digest, None if key is None else _seal(digest, place, key), key_id(key))


def stamped(content: dict[str, Any], place: str, key: bytes | None) -> dict[str, Any]:
    """The content with its stamp under the key "custody"."""
    bare = {name: value for name, value in content.items() if name != KEY}
    return {**bare, KEY: asdict(stamp(bare, place, key))}


def fault(content: dict[str, Any], place: str, key: bytes | None) -> str | None:
    """What is wrong with a stamped output, as a noun phrase; None where content and place are as written.

    Without a key only the hash is checked.
    """
    recorded = content.get(KEY)
    if not isinstance(recorded, dict) or set(recorded) != {"sha256", "seal", "key"}:
        return "a file without its own hash"
    bare = {name: value for name, value in content.items() if name != KEY}
    expected = stamp(bare, place, key)
    if recorded["sha256"] != expected.sha256:
        return "an altered file"
    if key is None or recorded == asdict(expected):
        return None
    if recorded["key"] is None:
        return "a file without a seal"
    return (
        "an altered file, or the file of another output"
        if recorded["key"] == expected.key
        else "a file that another run sealed"
    )


def canonical(content: Any) -> bytes:
    """JSON content as bytes that do not depend on the layout of its file."""
    return json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()


def key_id(key: bytes | None) -> str | None:
    return None if key is None else hashlib.sha256(b"seal key " + key).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read once for as long as nothing about the file changes."""
    at = path.stat()
    return _digest(path, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)


def private_digest(path: Path, key: bytes) -> str:
    """HMAC-SHA-256 of a private file's bytes: a plain hash would confirm a guessed corpus."""
    at = path.stat()
    return _keyed_digest(path, key, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)


def keyed_file_digest(path: Path, key: bytes) -> str:
    """HMAC-SHA-256 of a file's bytes, or of the names and bytes below a folder. Raises UsageError where it
    cannot be read.
    """
    code = hmac.new(key, digestmod=hashlib.sha256)
    try:
        if not path.is_dir():
            return private_digest(path, key)[:32]
        for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            code.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
            code.update(bytes.fromhex(private_digest(file, key)))
    except OSError as error:
        raise unread(path, "a readable file", error) from error
    return code.hexdigest()[:32]


def folder_digests(folder: Path) -> dict[str, str]:
    """Every file below a folder by its path in it -> SHA-256."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() or file.is_symlink())
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def sidecar(relative: str) -> str:
    """The file with the hash of a file that carries none itself."""
    return f"{relative}.custody.json"


def commitment(salt: str, parts: dict[str, Any]) -> str:
    """Hash of a salt and all that was fixed before training: to be noted down where the trainer cannot reach
    it.

    It reveals nothing about the coins until the salt is shown.
    """
    return hashlib.sha256(bytes.fromhex(salt) + canonical(parts)).hexdigest()


def noted(now: str, typed: str) -> dict[str, str]:
    """The commitment as it is, and whether it is the one that was noted down; case and spaces do not
    count.
    """
    digits = "".join(typed.split()).lower()
    if re.fullmatch("[0-9a-f]{64}", digits, re.ASCII) is None:
        raise UsageError(
            "--commitment",
            "64 hexadecimal digits, as `train` or `plant` printed them",
            f"{typed!r:.80}",
        )
    same = hmac.compare_digest(digits.encode(), now.encode())
    return {"commitment": now, "noted_before": "the same" if same else ANOTHER}


def _seal(digest: str, place: str, key: bytes) -> str:
    return hmac.new(key, f"{place}\n{digest}".encode(), hashlib.sha256).hexdigest()


@cache
def _digest(path: Path, *_: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _keyed_digest(path: Path, key: bytes, *_: int) -> str:
    code = hmac.new(key, digestmod=hashlib.sha256)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            code.update(piece)
    return code.hexdigest()
