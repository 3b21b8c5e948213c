"""Files that carry no stamp of their own (lines, pages): their hash lies sealed in a file beside them."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from dpaudit.storage import custody
from dpaudit.storage.custody import sidecar
from dpaudit.storage.remedies import missing
from dpaudit.storage.rundir import RunDir, plain
from dpaudit.storage.whole_files import PRIVATE, write_text


def read_sealed_lines(run_dir: RunDir, relative: str) -> list[dict[str, Any]]:
    """The rows of a file that `write_sealed_lines` wrote. Raises UsageError for other bytes than it
    wrote.
    """
    require_sealed(run_dir, relative)
    return run_dir.read_lines(relative)


def require_sealed(run_dir: RunDir, relative: str) -> None:
    """Raises UsageError for a file with other bytes than `write_sealed` wrote."""
    path, beside = run_dir.file(relative), run_dir.file(sidecar(relative))
    if not path.is_file():
        raise missing(path)
    known = run_dir.read_json(sidecar(relative))["sha256"] if beside.is_file() else ()
    if custody.file_digest(path) not in known:
        raise run_dir.refused(
            relative, "an altered file" if known else "a file whose hash is not kept beside it"
        )


def write_sealed_lines(run_dir: RunDir, relative: str, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows of JSON, for their owner's eyes alone, as `write_sealed` does."""
    text = "".join(json.dumps(row, ensure_ascii=False, default=plain) + "\n" for row in rows)
    write_sealed(run_dir, relative, text, PRIVATE)


def write_sealed(
    run_dir: RunDir, relative: str, text: str, mode: int = 0o666, inputs: Iterable[str] = ()
) -> None:
    """Writes a text as a whole or not at all, and its hash, sealed, with those of its inputs, to a file
    beside it.

    The hash is written first, beside that of the old text: after a kill at any time one of the two fits.
    """
    path, beside = run_dir.file(relative), run_dir.file(sidecar(relative))
    known = run_dir.read_json(sidecar(relative))["sha256"] if beside.is_file() else ()
    before = [digest for digest in known if path.is_file() and digest == custody.file_digest(path)]
    after = hashlib.sha256(text.encode()).hexdigest()
    run_dir.write_json(sidecar(relative), {"sha256": [after, *before]}, inputs)
    write_text(path, text, mode)
