"""Jobs of Slurm by submitit. Slurm places them. One that is preempted or runs out of time is put back into
the queue by submitit, one whose machine dies by Slurm.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.errors import PartialError, UsageError
from dpaudit.machines.place import LIST, Place, limit
from dpaudit.machines.work import Order, perform

RETRIES = 3  # of a job that ended without a word
DAY = 24 * 60  # minutes; a longer training goes on in another job
TIMEOUTS = 10_000  # as often as it must
ASK = 15.0  # seconds between two looks at the queue
LATE = 20.0  # seconds that a result may take through the file system


@dataclass(frozen=True)
class Performed:
    """The call that submitit keeps; put back into the queue, it is the same call: an arm continues from its
    checkpoint.
    """

    order: Order

    def __call__(self) -> Exception | None:
        return perform(self.order)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class OnSlurm:
    """Jobs of one executor of submitit."""

    threads: int | None = None  # as many cores as Slurm gives

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._tries: dict[int, int] = {}
        self._asked = self._answered = 0.0  # when the queue was looked at
        self._seen: dict[str, float] = {}  # job -> when it was last in the queue

    def look(self, order: Order) -> None:
        """Nothing: it would wait in the queue as long as an arm does, and every job looks first."""

    def submit(self, order: Order) -> Any:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        self._tries[order.number] = self._tries.get(order.number, 0) + 1
        try:
            job = self._executor.submit(Performed(order))
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            why = [line for line in str(error).splitlines() if "error:" in line]
            got = why[-1].strip() if why else "a Slurm that refuses it"
            raise PartialError(f"{order.title}: expected a job that Slurm takes, got {got}") from None
        self._seen[job.job_id] = time.monotonic()
        return [job]

    def ended(self, order: Order, handle: Any) -> bool:
        """Whether a job is done; one that was lost is submitted again. Raises the error that ended it."""
        job = handle[-1]
        if job.paths.result_pickle.exists():
            if job.exception() is not None:
                raise UsageError(
                    order.title,
                    f"dpaudit {order.version} on every worker",
                    "a worker that cannot read the job",
                    "install it in the Python of the workers",
                )
            if (error := job.result()) is not None:
                raise error
            return True
        if self._is_lost(job):
            if self._tries[order.number] > RETRIES:
                raise self._lost(order)
            handle += self.submit(order)
        return False

    def _is_lost(self, job: Any) -> bool:
        """Whether a job has ended without a result. Submitit would ask accounting, at times after ten minutes
        only, and not every Slurm has it; the queue is always there.
        """
        import submitit

        if not isinstance(job, submitit.SlurmJob):
            return bool(job.done()) and not job.paths.result_pickle.exists()
        if (now := time.monotonic()) - self._asked >= ASK:
            self._asked = now
            if (queue := _queue()) is not None:
                self._answered = now
                self._seen |= dict.fromkeys(queue, now)
        return self._answered - self._seen[job.job_id] > LATE

    def _lost(self, order: Order) -> PartialError:
        hint = "" if order.told.exists() else f"; do the workers see {order.folder.parent} and this Python?"
        return PartialError(
            f"{order.title}: expected the work to end, got {RETRIES + 1} jobs that ended without a "
            f"word{hint}; type the command again to continue"
        )

    def cancel(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            handle[-1].cancel(check=False)

    def close(self) -> None:
        """Nothing is open."""


def _queue() -> list[str] | None:
    """The jobs of this user that wait or run; None where Slurm does not answer now."""
    try:
        asked = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%A"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=LIST, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None


def executor_of(place: Place, folder: Path, light: bool) -> Any:
    """Submitit's executor for a partition; Slurm's own variables (SBATCH_ACCOUNT, SBATCH_GPUS,
    SBATCH_TIMELIMIT) go before what it asks for.
    """
    import submitit

    time = limit(place)
    executor = submitit.SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
    executor.update_parameters(
        job_name="dpaudit",
        time=DAY if time is None else min(DAY, time),
        **({"partition": place.name} if place.name else {}),
        **({"cpus_per_task": 1} if light else {}),
    )
    return executor
