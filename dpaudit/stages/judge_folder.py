"""The folder of a result without a run: its files, its key, and what it says of judges that were tried."""

import json
import secrets
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.findings.judge_tries import JudgeTries, JudgeTry
from dpaudit.storage import custody
from dpaudit.storage.whole_files import PRIVATE, whole_file, write_text

TASK, KEY, REPLIES = "asked.json", "replies.key", ".replies"
PASSPORT, JUDGEMENTS, SUMMARY = "passport.json", "judgements.jsonl", "summary.json"
HUMAN, TRIES = "human.json", "tries.json"
ANOTHER = "name another folder with --out DIR"


def require_place(out: Path) -> None:
    """Raises UsageError where no folder can be, and where replies cannot be kept in it."""
    if out.is_symlink() and not out.exists():
        raise UsageError(f"--out {out}", "a folder", "a link that leads nowhere", ANOTHER)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}", "a folder", "a file", ANOTHER)
    replies = out / REPLIES
    if replies.exists() and not replies.is_file():
        raise UsageError(
            str(replies), "a file of replies", "a folder", f"restore it from a copy, or {ANOTHER}"
        )


def key_of(out: Path) -> bytes | None:
    """The key of a folder's replies and seals; None where there is none. Raises UsageError for a broken
    one.
    """
    file = out / KEY
    if not file.is_file():
        return None
    key = file.read_bytes()
    if len(key) != custody.KEY_BYTES:
        raise UsageError(
            str(file), f"a key of {custody.KEY_BYTES} bytes", f"{len(key)} bytes", f"restore it, or {ANOTHER}"
        )
    return key


def new_key(out: Path) -> bytes:
    """Makes the folder where it is not there, with a key."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(custody.KEY_BYTES)
    with whole_file(out / KEY) as part:
        part.touch(mode=PRIVATE)
        part.write_bytes(key)
    return key


def write(out: Path, name: str, content: dict[str, Any], key: bytes) -> None:
    """Writes JSON with the hash of its content, sealed, for its owner's eyes alone."""
    stamped = custody.stamped(json.loads(json.dumps(content)), name, key)
    write_text(out / name, json.dumps(stamped, ensure_ascii=False, indent=1) + "\n", PRIVATE)


def read(out: Path, name: str, key: bytes) -> dict[str, Any]:
    """JSON as `write` wrote it. Raises UsageError for anything else."""
    file = out / name
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        wrong = custody.fault(content, name, key)
    except FileNotFoundError:
        wrong = "no such file"
    except (ValueError, AttributeError, RecursionError):
        wrong = "another content"
    if wrong is not None:
        raise UsageError(
            str(file), "the file as `dpaudit judge` wrote it", wrong, f"restore it from a copy, or {ANOTHER}"
        )
    del content[custody.KEY]
    return dict(content)


def tries_of(out: Path, key: bytes) -> tuple[JudgeTry, ...]:
    """The passports that were made in this folder, oldest first; empty where none was, or another version
    counted them. Raises UsageError for an altered file.
    """
    if not (out / TRIES).is_file():
        return ()
    content = read(out, TRIES, key)
    if content.get("format") != JudgeTries.FORMAT:
        return ()
    return JudgeTries.from_json(content, str(out / TRIES)).tries


def keep_tries(out: Path, tries: tuple[JudgeTry, ...], key: bytes) -> None:
    """Writes them."""
    write(out, TRIES, JudgeTries(tries).to_json(), key)
