"""Models outside of a run that its results come from: its base, a reference, an adapter that it continues
from.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from dpaudit.errors import UsageError
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

READ = (  # what a library reads from such a folder: a change makes another model
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
    "adapter_config.json",
    "tokenizer*",
    "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken",
    "*.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)  # fmt: skip


def of_folder(folder: Path) -> dict[Path, str]:
    """Every file that a model or an adapter is loaded from -> SHA-256; empty for a hub id, which is no
    folder.
    """
    matches = {file for place in (folder, folder / "adapter") for kind in READ for file in place.glob(kind)}
    files = sorted(file for file in matches if file.is_file())
    return {file: _digest(file, (at := file.stat()).st_size, at.st_mtime_ns) for file in files}


def of_base(base: str) -> dict[str, str]:
    """The base's files by their place in its folder, wherever that lies -> SHA-256."""
    from dpaudit.models import hf, random_weights

    if random_weights.is_random(base):
        stand_in = of_base(random_weights.TOKENIZER)
        words = {name: digest for name, digest in stand_in.items() if name.startswith(("tokenizer", "chat"))}
        return random_weights.identity(base) | words
    return _by_place(Path(hf.resolve(base)))


def of_start(start: str | None) -> dict[str, str]:
    """The files of an adapter from outside by their place in its folder -> SHA-256; empty without one."""
    return _by_place(Path(start)) if start else {}


def require_base(run_dir: RunDir, plan: Plan) -> None:
    """Raises UsageError where an arm of the run was trained on another base than is there now (weights,
    settings or tokenizer), or began with another adapter from outside of the run.

    On another base its adapter means nothing: an attack would find no member, and a claim would stand
    untested. What DPO changed cannot be told from another start. All arms are checked, whichever are asked
    for: arms of two bases cannot be compared.
    """
    for arm in plan.suite.grid.arms:
        ledger = run_dir.file(TrainedArm(run_dir, arm.name).figures_file)
        otherwise = f"delete {run_dir.file('train')} to train all arms again"
        require_trained_on(ledger, plan.suite.model.base, otherwise)
        start = plan.suite.model.start
        if start is not None and (then := _recorded(ledger, "start")):
            _require_same(ledger, then, of_start(start), "start", start, otherwise)


def require_trained_on(ledger: Path, base: str, otherwise: str) -> None:
    """Raises UsageError where `ledger`, a train.json, names other files than `base` has.

    An adapter without such a file passes. Beside an adapter that was trained elsewhere a file of that name
    may hold anything.
    """
    if then := _recorded(ledger, "base"):
        _require_same(ledger, then, of_base(base), "base", base, otherwise)


def _by_place(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): digest for file, digest in of_folder(folder).items()}


def _recorded(ledger: Path, key: str) -> dict[str, str]:
    """The files that a train.json names under a key; empty where it names none."""
    try:
        record = json.loads(ledger.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    then = record.get(key) if isinstance(record, dict) else None
    return then if isinstance(then, dict) else {}


def _require_same(
    ledger: Path, then: dict[str, str], now: dict[str, str], kind: str, place: str, otherwise: str
) -> None:
    """`kind` is "base" or "start"."""
    if now == then:
        return
    others = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    thing, role = ("model", "of") if kind == "base" else ("adapter", "that began with")
    raise UsageError(
        str(ledger),
        f"an adapter {role} the {thing} that {place} is now",
        f"a {kind} with another {', '.join(others[:3])}" if now else f"no {thing} at {place}",
        f"restore that {thing}, or {otherwise}",
    )


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file as it was at that time, read once."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
