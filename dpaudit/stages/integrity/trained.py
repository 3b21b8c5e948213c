"""A trained arm: its files in the run directory, what it was made from, its ledger, and whether it is
current.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.privacy import ledger
from dpaudit.privacy.ledger import Ledger
from dpaudit.stages.integrity.custody import INPUTS
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan

COMMAND = "dpaudit train"


@dataclass(frozen=True)
class TrainedArm:
    """An arm of a run by its name, whether it is trained or not. Files are paths relative to the run."""

    run_dir: RunDir
    name: str

    @property
    def folder(self) -> str:
        return f"train/{self.name}"

    @property
    def adapter(self) -> Path:
        """The folder that PEFT opens."""
        return self.run_dir.file(f"{self.folder}/adapter")

    @property
    def weights_file(self) -> str:
        return weights_of(self.name)

    @property
    def ledger_file(self) -> str:
        return ledger.file_of(self.name)

    @property
    def figures_file(self) -> str:
        """What training measured; it is written last, and says what the arm was made from."""
        return f"{self.folder}/train.json"

    @property
    def steps_file(self) -> str:
        return f"{self.folder}/steps.jsonl"

    @property
    def axes_file(self) -> str:
        """What was released along canaries' axes of the weights."""
        return f"{self.folder}/axes.npy"

    @property
    def manifest_file(self) -> str:
        return f"{self.folder}/manifest.json"

    @property
    def is_there(self) -> bool:
        return self.run_dir.file(self.figures_file).is_file()

    @property
    def has_axes(self) -> bool:
        return self.run_dir.file(self.axes_file).is_file()

    def ledger(self) -> Ledger:
        """Raises UsageError where it is missing or is no ledger."""
        return ledger.of_arm(self.run_dir, self.name)

    def figures(self) -> dict[str, Any]:
        return self.run_dir.read_json(self.figures_file)

    def require_current(self) -> None:
        """Raises UsageError where the arm is not trained, or was made from another plan or corpus."""
        self.run_dir.require_current(self.figures_file, INPUTS, COMMAND)

    def is_current(self, inputs: Sequence[str]) -> bool:
        return self.run_dir.is_current(self.figures_file, inputs)


def inputs_of(plan: Plan, arm: Arm) -> tuple[str, ...]:
    """What an arm is made from: the plan, the corpus, and the weights of the arm that it starts from."""
    start = plan.suite.grid.start_of(arm)
    return INPUTS if start is None else (*INPUTS, weights_of(start.name))


def weights_of(arm: str) -> str:
    return f"train/{arm}/adapter/adapter_model.safetensors"


def score_inputs(arm: str) -> list[str]:
    """What the scores of an arm are made from, beside the recipe."""
    return [*INPUTS, ledger.file_of(arm), weights_of(arm), f"train/{arm}/adapter/adapter_config.json"]
