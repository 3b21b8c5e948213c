"""Checkpoints of an arm in training: after a kill it continues from them, to the same bytes.

    train/.ARM.partial/privacy.json     the ledger, written before the weights that it covers
    train/.ARM.partial/STEPS/           weights and optimizer; what the steps did
    secret/states/ARM.STEPS.json        the generators of sampler, noise and dropout

They are deleted when the arm ends; what a kill leaves behind is deleted when the arm is next found whole.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch

from dpaudit.errors import UsageError
from dpaudit.privacy.ledger import FILE, Ledger
from dpaudit.stages.integrity.custody import require_files
from dpaudit.storage import custody, disk
from dpaudit.storage.rundir import RunDir
from dpaudit.training.state import Snapshot, Step


class Checkpoints:
    """The checkpoints of one arm. `inputs` are the files of the run that the arm is made from."""

    def __init__(self, run_dir: RunDir, arm: str, inputs: tuple[str, ...]) -> None:
        self.run_dir, self.arm, self.inputs = run_dir, arm, inputs
        self.folder = f"train/.{arm}.partial"

    def keep(self, snapshot: Snapshot, ledger: Ledger, start: str) -> None:
        """Writes a snapshot: generators first, then the ledger, then the weights; older ones go last.

        `start` is the digest of the weights that the arm began with.
        """
        number = len(snapshot.steps)
        secret = self._secret(number)
        self.run_dir.file(secret).parent.mkdir(mode=0o700, exist_ok=True)
        self.run_dir.write_json(secret, snapshot.secret)
        self.run_dir.file(secret).chmod(0o600)
        self.run_dir.write_json(f"{self.folder}/{FILE}", ledger.at_step(number).to_json(), self.inputs)
        with self.run_dir.whole_directory(f"{self.folder}/{number}") as place:
            safetensors.torch.save_file(snapshot.tensors, place / "state.safetensors")
            with (place / "state.safetensors").open("rb") as written:
                os.fsync(written.fileno())  # the folder is renamed into place when this is on the disk
            state: dict[str, Any] = {"tokens": snapshot.tokens, "seconds": snapshot.seconds, "state": number}
            steps = [asdict(step) for step in snapshot.steps]
            state["begun"] = ledger.beginning | {"start": start}
            state["files"] = custody.folder_digests(place)
            relative = str((place / "state.json").relative_to(self.run_dir.path))
            self.run_dir.write_json(relative, state | {"steps": steps}, self.inputs)
        self._drop(keep=number)

    def latest(self, ledger: Ledger, start: str) -> Snapshot | None:
        """The newest whole snapshot; None before the first.

        Raises UsageError for one of another plan or corpus, for one that began with other weights or under
        another claim or noise (the ledger would not describe its first steps), and for a broken one.
        """
        numbers = sorted(self._numbers())
        if not numbers:
            return None
        relative = f"{self.folder}/{numbers[-1]}/state.json"
        if not self.run_dir.file(relative).is_file():
            raise self.run_dir.refused(relative, "no such file")
        state = self.run_dir.read_json(relative)
        require_files(self.run_dir, f"{self.folder}/{numbers[-1]}", state["files"], {"state.json"})
        self._require_ledger(len(state["steps"]))
        if state["inputs"] != self.run_dir.digests(self.inputs):
            raise UsageError(
                str(self.run_dir.file(relative)),
                "a checkpoint of this plan and corpus",
                "a checkpoint of another plan or corpus",
                f"delete {self.run_dir.file(self.folder)} to train {self.arm} from its start",
            )
        if state["begun"] != ledger.beginning | {"start": start}:
            raise UsageError(
                str(self.run_dir.file(relative)),
                "a checkpoint with the start and the noise that the arm has now",
                "a checkpoint with another start or noise",
                f"restore what it started from, or delete {self.run_dir.file(self.folder)}",
            )
        secret = self._generators(state["state"])
        weights = self.run_dir.file(relative).with_name("state.safetensors")
        try:
            tensors = safetensors.torch.load_file(weights)
        except (OSError, safetensors.SafetensorError):
            raise self._broken(weights) from None
        steps = tuple(Step(**step) for step in state["steps"])
        return Snapshot(tensors, steps, state["tokens"], state["seconds"], secret)

    def _generators(self, number: int) -> dict[str, Any]:
        """The generators of a checkpoint, as they were written; errors name the checkpoint's remedy."""
        place = self._secret(number)
        try:
            secret = self.run_dir.read_json(place)
        except UsageError as error:
            raise UsageError(
                error.where,
                "the checkpoint's generators as they were written",
                error.got,
                f"restore it, or delete {self.run_dir.file(self.folder)} to train {self.arm} from its start",
            ) from None
        del secret["inputs"]
        return secret

    def _require_ledger(self, steps: int) -> None:
        """Raises UsageError where the ledger beside the checkpoints covers fewer steps than were done, or is
        gone.
        """
        relative = f"{self.folder}/{FILE}"
        if not self.run_dir.file(relative).is_file():
            raise self.run_dir.refused(relative, "no such file", "the ledger of the steps that were done")
        done = Ledger.from_json(self.run_dir.read_json(relative)).steps_done
        if done < steps:
            raise self.run_dir.refused(
                relative, f"a ledger of {done} steps", f"a ledger of at least {steps} steps"
            )

    def clear(self) -> None:
        """Deletes every checkpoint and every generator of the arm."""
        self._drop(keep=None)
        disk.remove(self.run_dir.file(self.folder))

    def _broken(self, file: Path) -> UsageError:
        return UsageError(
            str(file),
            "a whole file of a checkpoint",
            "a broken file",
            f"restore it, or delete {self.run_dir.file(self.folder)} to train {self.arm} from its start",
        )

    def _drop(self, keep: int | None) -> None:
        for number in list(self._numbers()):
            if number != keep:
                shutil.rmtree(self.run_dir.file(f"{self.folder}/{number}"))
        for file in self.run_dir.secret_file("states").glob(f"{self.arm}.*.json"):
            if file != (self.run_dir.file(self._secret(keep)) if keep is not None else None):
                file.unlink()

    def _numbers(self) -> Iterator[int]:
        folder = self.run_dir.file(self.folder)
        if folder.is_dir():
            yield from (int(p.name) for p in folder.iterdir() if p.name.isdigit())

    def _secret(self, number: int) -> str:
        return f"secret/states/{self.arm}.{number}.json"
