"""Merge: one adapter and its base become a model of its own, with the ledger that it must keep."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.stages.integrity import custody as chain
from dpaudit.stages.integrity import weights
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.storage import custody
from dpaudit.storage.exclusive import making
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.whole_files import write_text
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.model_card import Audited
    from dpaudit.privacy.ledger import Ledger

PROMPTS = tuple(  # public, and the same for every model
    (Turn("user", text),)
    for text in (
        "What should I take for a headache?",
        "How often may I take it, and what must I not take with it?",
        "我头疼两天了，应该吃什么药？",
        "Write one sentence about the sea.",
    )
)


@dataclass(frozen=True)
class MergeSource:
    """What is merged: an adapter folder, its base, and what its ledger will say it was merged from."""

    adapter: Path
    base: str
    dtype: str
    name: str  # of the arm, or of the adapter's folder
    run: str | None = None
    assume_public: bool = False
    quantization: str | None = None  # of the base while the adapter was trained


def of_run(
    run_dir: RunDir, plan: Plan, arm: str, model: str | None = None, dtype: str | None = None
) -> MergeSource:
    """The source that an arm of a run is. Raises UsageError for an arm that is unknown, not trained or
    stale.
    """
    plan.suite.grid.named([arm])
    chain.require(run_dir, plan)
    trained = TrainedArm(run_dir, arm)
    trained.require_current()
    adapter = trained.adapter
    base = plan.suite.model
    return MergeSource(
        adapter,
        model or _base_of(adapter),
        dtype or base.dtype,
        arm,
        run_dir.name,
        quantization=base.quantization,
    )


def of_folder(
    adapter: Path, model: str | None = None, dtype: str | None = None, assume_public: bool = False
) -> MergeSource:
    """The source that an adapter folder outside a run is. Raises UsageError where it is no such folder."""
    from dpaudit.models import merge
    from dpaudit.privacy import beside

    if not (adapter / "adapter_config.json").is_file():
        raise beside.no_adapter(adapter, "adapter_config.json")
    chain.require_if_arms(adapter)
    base = model or _base_of(adapter)
    name = adapter.absolute().name
    return MergeSource(adapter, base, dtype or merge.own_dtype(base), name, assume_public=assume_public)


def run(
    source: MergeSource,
    out: Path,
    shard_size: str,
    progress: Progress,
    *,
    full: bool = True,
    audited: "Audited | None" = None,
) -> dict[str, Any]:
    """Writes the merged model to `out` as a whole or not at all; returns what the command prints.

    A `full` model has its ledger in its folder; else the ledger lies beside the folder, under a name with its
    hash, and the model cannot be trained on without it. The ledger names the SHA-256 of every file of
    weights, and config.json names the ledger's. Raises UsageError where `out` exists, where there is no
    ledger and the adapter is not assumed public, where base and adapter do not share one history, where the
    adapter has no effect, and where the model that was written does not answer as base and adapter do.
    """
    from dpaudit.models import merge, model_card
    from dpaudit.privacy import beside, ledger

    merge.check(shard_size, source.dtype)
    if out.exists() or out.is_symlink():
        with making(out):  # removes what a killed merge left beside it
            raise UsageError(f"--out {out}", "a folder that does not exist yet", "an existing path")
    weights.require_trained_on(source.adapter.parent / "train.json", source.base, "train the adapter again")
    kept = _kept(source)
    apart: list[Path] = []
    with making(out), _of_a_model(apart, out), RunDir(out.parent).whole_directory(out.name) as folder:
        with progress.task(f"merging {source.name}"):
            reloaded = merge.merge(
                source.base,
                source.adapter,
                folder,
                dtype=source.dtype,
                quantization=source.quantization,
                shard_size=shard_size,
                without=(beside.KEY,),
                prompts=PROMPTS,
            )
        if kept is not None:
            _write_ledger(folder, kept, source, None if full else out, apart)
        card = model_card.model_card(kept, source.base, merged=True, full=full, audited=audited)
        (folder / "README.md").write_text(card, encoding="utf-8")
        shards = len(list(folder.glob("*.safetensors")))
    spent = "none" if kept is None else str(apart[0] if apart else out / ledger.FILE)
    return {**_summary(source, out, kept, shards, asdict(reloaded)), "ledger": spent}


def _base_of(adapter: Path) -> str:
    from dpaudit.models import merge

    return merge.base_of(adapter)


def _kept(source: MergeSource) -> "Ledger | None":
    """The ledger that the merged model keeps: the adapter's, or its base's where the adapter is public.

    Raises UsageError where there is none, where it is of an adapter on another base, and where the base has
    spent something that the adapter's does not count.
    """
    from dpaudit.models import merge
    from dpaudit.privacy import beside

    folder = merge.folder_of(source.base)
    before = beside.find(folder) if folder else None
    ledger = beside.find(source.adapter)
    if ledger is None and not source.assume_public:
        raise UsageError(
            f"--adapter {source.adapter}",
            "a ledger, privacy.json, in the folder or above it",
            "no ledger",
            "--assume-public says that it was trained on public data",
        )
    if ledger is not None:
        beside.require_base(ledger, source.base, weights.of_base(source.base))
    if ledger is None or before is None:
        return ledger or before
    claim, base_claim = ledger.claim, before.claim
    same = (claim.unit, claim.relation) == (base_claim.unit, base_claim.relation)
    earlier = ledger.mechanisms[: len(before.mechanisms)]
    if (
        not same
        or not before.mechanisms
        or earlier != before.mechanisms
        or len(ledger.mechanisms) == len(earlier)
    ):
        raise UsageError(
            str(ledger.file),
            f"a ledger whose first stages are those of its base, {before.file}",
            "a ledger with other first stages",
            "train from the base with `model.start`, so that both count",
        )
    return ledger


@contextmanager
def _of_a_model(ledgers: Sequence[Path], out: Path) -> Iterator[None]:
    """Takes away ledgers that were written for a model that did not come to be."""
    try:
        yield
    finally:
        if not out.exists():
            for file in ledgers:
                file.unlink(missing_ok=True)


def _write_ledger(
    folder: Path, kept: "Ledger", source: MergeSource, public: Path | None, apart: list[Path]
) -> None:
    """Binds ledger and weights of a merged model to each other, and its config.json to the ledger.

    Of a `public` model, which will lie there, the ledger is written beside the folder, and its place is added
    to `apart`.
    """
    from dpaudit.privacy import beside, ledger

    origin = {
        "run": source.run,
        "arm" if source.run else "adapter": source.name,
        "base": source.base,
        "adapter_sha256": _adapter_digest(source),
        "dtype": source.dtype,
        "quantization": source.quantization,
    }
    weights = {file.name: custody.file_digest(file) for file in sorted(folder.glob("*.safetensors"))}
    salt = "" if public is None else secrets.token_hex(16)
    data = custody.stamped(kept.merged(origin, weights, salt).to_json(), "", None)
    text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    place = folder / ledger.FILE
    if public is not None:
        place = public.with_name(f"{public.name}-{digest[:12]}.{ledger.FILE}")
        apart.append(place)
    write_text(place, text)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config[beside.KEY] = digest
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _adapter_digest(source: MergeSource) -> str:
    return custody.file_digest(source.adapter / "adapter_model.safetensors")


def _summary(
    source: MergeSource, out: Path, kept: "Ledger | None", shards: int, reload: dict[str, Any]
) -> dict[str, Any]:
    claim = kept.to_json()["claim"] if kept else None
    return {
        "model": str(out),
        "base": source.base,
        "adapter": source.name,
        "adapter_sha256": _adapter_digest(source),
        "dtype": source.dtype,
        "shards": shards,
        "claim": claim,
        "reload_check": reload,
        "caveat": _caveat(kept),
    }


def _caveat(kept: "Ledger | None") -> str | None:
    from dpaudit.privacy import beside
    from dpaudit.suite.plan import REPRODUCIBLE

    if kept is None:
        return "no ledger: assumed public, nothing is claimed"
    caveats = []
    if not kept.is_private:
        caveats.append("not private: this model must not be released")
    if lacking := ", no ".join(beside.unnamed(kept)):
        caveats.append(
            f"the ledger names no {lacking}: nothing shows that it belongs to this adapter on this base"
        )
    if kept.is_reproducible:
        caveats.append(REPRODUCIBLE)
    return "; ".join(caveats) or None
