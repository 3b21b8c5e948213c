"""The lesson of an arm: its units, and the loss that they are learned by."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dpaudit.stages.prepare.jobs import ArmJob
from dpaudit.stages.train.training_set import TrainingSet
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.training import labels

if TYPE_CHECKING:
    from dpaudit.training.examples import Objective, UnitExamples
    from dpaudit.training.ranks import Ranks


def of_arm(
    run_dir: RunDir, plan: Plan, job: ArmJob, data: TrainingSet, model: Any, rows: int, several: "Ranks"
) -> "tuple[Sequence[UnitExamples], Objective]":
    """What the arm learns from and by which loss; under unit label with the labels that randomised response
    gave.
    """
    from dpaudit.training import examples

    arm, training = job.arm, plan.suite.training
    units, objective = with_true_labels(plan, arm, data.units, model, rows)
    if training.unit != labels.UNIT:
        return units, objective
    key = several.once(lambda: flip_key(run_dir, plan, arm.name))
    turned = labels.randomised(units, data.names, arm.epsilon, key)
    return turned, examples.Objective(arm.loss, training.dpo_beta, labels.flip_probability(arm.epsilon))


def with_true_labels(
    plan: Plan, arm: Arm, units: "Sequence[UnitExamples]", model: Any, rows: int
) -> "tuple[Sequence[UnitExamples], Objective]":
    """The units as an arm's loss needs them, and that loss, for labels as they are.

    The reference of a DPO loss is the model as it is at the start; its log-probabilities are computed once,
    `rows` sequences at a time.
    """
    from dpaudit.training import examples, losses

    if arm.method == "dpo" and losses.needs_reference(arm.loss):
        units = examples.with_reference(model, units, rows)
    return units, objective_of(plan, arm)


def objective_of(plan: Plan, arm: Arm) -> "Objective":
    """The loss of an arm, for labels as they are."""
    from dpaudit.training import examples

    training = plan.suite.training
    if arm.method != "dpo":
        return examples.Objective("sft")
    return examples.Objective(arm.loss, training.dpo_beta, training.dpo_label_smoothing)


def flip_key(run_dir: RunDir, plan: Plan, arm: str) -> bytes:
    """The secret that decides an arm's flips. It stays with the run, beside the labels themselves: an arm
    that is trained again learns from the same answers and spends nothing more.
    """
    if plan.insecure_seed is not None:
        return hashlib.sha256(f"{plan.insecure_seed}/{arm}/flips".encode()).digest()
    file = f"secret/flips-{arm}.json"
    if not run_dir.file(file).is_file():
        run_dir.write_json(file, {"key": secrets.token_hex(32)})
        run_dir.file(file).chmod(0o600)
    return bytes.fromhex(run_dir.read_json(file)["key"])
