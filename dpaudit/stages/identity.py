"""What a run is of, read from its plan, its manifest of the corpus and its records."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from dpaudit.findings.identity import BaseModel, DataUsed, Identity, Uncovered
from dpaudit.findings.report import Adapter, Stepped
from dpaudit.models.licence import folder_of, licence_of
from dpaudit.stages.integrity import custody
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm, schedule_key
from dpaudit.suite.plan import RECORDS, Plan

RUN_BY = re.compile(  # to the end of the sentence; the dot of an initial ends none
    r"\b(?:[Rr]un by|[Rr]esponsible:)\s+([^;\n]{1,80}?)(?=(?<!\s[A-Z])\.(?:\s|$)|[;\n]|$)"
)


def of(run_dir: RunDir, plan: Plan, arms: Sequence[Adapter]) -> Identity:
    """The identity of a run with these trained arms. What the run does not say is None, and no account or
    machine name is read.
    """
    named = RUN_BY.search(plan.suite.description)
    dates = sorted(entry.date for record in RECORDS for entry in declarations.entries(run_dir, record))
    counts = _counts(run_dir)
    return Identity(
        data=_data(run_dir, plan, counts, arms),
        base=BaseModel(
            plan.suite.model.base, _weights(run_dir, arms), licence_of(folder_of(plan.suite.model.base))
        ),
        responsible=named[1].strip() if named else None,
        declared=dates[0],
        changed=dates[-1],
        uncovered=tuple(_uncovered(plan, counts, arms)),
    )


def _counts(run_dir: RunDir) -> dict[str, Any]:
    """What the manifest of the corpus counts; a count that it lacks is not there."""
    if not run_dir.file(custody.CORPUS).is_file():
        return {}
    manifest = run_dir.read_json(custody.CORPUS)
    return {
        **manifest.get("counts", {}),
        "units": manifest.get("units"),
        "scripts": manifest.get("scripts", {}),
    }


def _data(run_dir: RunDir, plan: Plan, counts: dict[str, Any], arms: Sequence[Adapter]) -> DataUsed:
    data, unit = plan.suite.data, plan.suite.training.unit
    real = [counts[part] for part in ("certain", "record") if part in counts]
    counted = counts.get("patients", sum(real) if unit == "patient" and len(real) > 1 else None)
    cut = [arm.training.sequences_truncated for arm in arms if arm.training.sequences_truncated is not None]
    return DataUsed(
        source=data.source,
        preference=data.preference,
        text=data.text,
        records=counts.get("records"),
        pairs=counts.get("pairs"),
        texts=counts.get("texts"),
        patients=counted,
        by_coin=counts.get("record"),
        units=counts.get("units"),
        canaries=counts.get("mia"),
        secrets=counts.get("extraction"),
        heldout=counts.get("heldout"),
        heldout_pairs=counts.get("heldout_pairs"),
        dropped=counts.get("over_cap"),
        cut=max(cut, default=None),
        rows_limit=data.limit,
        dates=data.dates,
        languages=data.languages,
        scripts=counts.get("scripts", {}),
    )


def _weights(run_dir: RunDir, arms: Sequence[Adapter]) -> dict[str, str]:
    """The base's files of weights with the hashes that training wrote down."""
    figures = run_dir.read_json(TrainedArm(run_dir, arms[0].arm).figures_file)
    return {name: digest for name, digest in figures.get("base", {}).items() if name.endswith(".safetensors")}


def _uncovered(plan: Plan, counts: dict[str, Any], arms: Sequence[Adapter]) -> Iterator[Uncovered]:
    """Values that a look at the private data may have set."""
    yield Uncovered("tokens of a sequence at most (model.max_length)", plan.suite.model.max_length)
    private = [arm for arm in arms if arm.private]
    if private and private[0].privacy.population_assumed:
        yield Uncovered("units, counted from the data (population)", private[0].privacy.population)
    if counts.get("gradient") and plan.suite.candidates.gradient == "auto":
        yield Uncovered("canaries along axes of the weights, by the number of units", counts["gradient"])
    for batch in dict.fromkeys(arm.privacy.expected_batch for arm in private):
        if batch is not None:
            yield Uncovered("units expected in a batch (training.batch)", batch)


def stepped(plan: Plan, arm: Arm) -> Stepped | None:
    """How the suite says that an arm steps; None where it has no schedule for this kind."""
    asked = getattr(plan.suite.training, schedule_key(arm, plan.suite.training.unit))
    return None if asked is None else Stepped(**vars(asked))
