"""Who writes the answers of a run's models: Transformers, or a vLLM engine with the arms as its adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.findings.quality import BASE
from dpaudit.models.decoding import Decoding
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import VLLM

if TYPE_CHECKING:
    from dpaudit.models.writers import Writer


def check(backend: str, decoding: Decoding, adapters: Mapping[str, Path]) -> None:
    """Raises UsageError, before anything is loaded, for what a backend cannot do."""
    if backend == VLLM:
        from dpaudit.models import vllm_writer

        vllm_writer.check(decoding, adapters)


def adapters_of(run_dir: RunDir, names: Sequence[str]) -> dict[str, Path]:
    """Arm -> the folder of its adapter, of those of `names` that are arms."""
    return {name: run_dir.file(weights_of(name)).parent for name in names if name != BASE}


def of_run(run_dir: RunDir, plan: Plan, names: Sequence[str], backend: str) -> "Writer":
    """Writes as the base of a run and as the named arms, in the dtype of the suite."""
    if backend == VLLM:
        from dpaudit.models.vllm_writer import VllmWriter

        return VllmWriter(plan.suite.model.base, adapters_of(run_dir, names), plan.suite.model.dtype)
    from dpaudit.models.writers import HFWriter
    from dpaudit.stages.evaluate import load_model

    return HFWriter(load_model(run_dir, plan, names))


def require_room(
    where: str, prompts: Sequence[tuple[Turn, ...]], writer: "Writer", decoding: Decoding, setting: str
) -> None:
    """Raises UsageError where a prompt and its answer do not fit into the model. `setting` begins what sets
    the length of answers.
    """
    if writer.window is None:
        return
    sizes = writer.sizes(prompts)
    long = [at for at, size in enumerate(sizes) if size + decoding.tokens > writer.window]
    if long:
        longest = max(sizes)
        least = writer.window - longest
        raise UsageError(
            where,
            f"prompts of at most {max(writer.window - decoding.tokens, 0):,} tokens beside answers of "
            f"{decoding.tokens:,}",
            f"{len(long)} longer ones, the longest of {longest:,}",
            f"{setting}{least}, or shorten them" if least > 0 else "shorten or leave out such prompts",
        )
