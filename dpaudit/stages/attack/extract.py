"""Extraction in stage attack: what each recipe measures of planted secrets and of real records. No labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dpaudit.stages.attack import complete, discover, rank
from dpaudit.stages.attack.scores import ScoringJob
from dpaudit.stages.prepare.candidates import CandidateUnits
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel

SCORERS = {"exact_rank": rank.score, "discoverable": discover.score, "pii_fields": complete.score}


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[ScoringJob],
    candidates: CandidateUnits,
    model: "HFModel",
) -> None:
    """Writes the scores of all jobs, signal by signal."""
    for signal, scored in SCORERS.items():
        own = [ScoringJob(job.arm, [r for r in job.recipes if r.signal == signal]) for job in jobs]
        if any(job.recipes for job in own):
            scored(run_dir, plan, progress, own, candidates, model)
