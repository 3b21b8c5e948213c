"""What each method learns from, counted before anything is trained, and what a user should know of it."""

from collections.abc import Sequence
from typing import Any

from dpaudit.stages.prepare.dialogues import CUT_MOST
from dpaudit.stages.prepare.prepare import CANARIES_MANY
from dpaudit.stages.train.forecast import Forecast, Learned
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan


def rows(found: Forecast, run_dir: RunDir | None) -> list[dict[str, Any]]:
    """One row a method: expected `units`, `rows` of the data (canaries left out), `patients` that they name,
    shares from 0 to 1 of rows that are cut (`cut`), of the answers' tokens that are lost, of rows of which a
    whole answer is, and of canaries among the units. Empty where no data are read.
    """
    if run_dir is None:
        return []
    shares = run_dir.read_json("corpus/manifest.json")["canary_share"]
    return [
        {
            "method": method,
            "units": learned.units,
            "rows": learned.rows,
            "patients": learned.patients,
            **_cut(learned),
            "canaries": shares.get(method, {}).get("units"),
        }
        for method, learned in found.learned.items()
    ]


def _cut(learned: Learned) -> dict[str, float | None]:
    tally = learned.tally
    if tally is None or not tally.rows:
        return dict.fromkeys(("cut", "tokens_lost", "answers_lost"))
    return {
        "cut": tally.cut / tally.rows,
        "tokens_lost": tally.lost / max(1, tally.lost + tally.kept),
        "answers_lost": tally.without / tally.rows,
    }


def _longer(plan: Plan) -> str:
    """What to do against cut rows."""
    from dpaudit.models import hf

    length, window = plan.suite.model.max_length, hf.window(plan.suite.model.base)
    if window is not None and length >= window:
        return "the model reads no longer ones: split them, or take another model (--model)"
    most = f", up to {window}," if window else ""
    return f"--set model.max_length=N above {length}{most} takes more time and memory"


def warnings(plan: Plan, found: Forecast, rows: Sequence[dict[str, Any]]) -> list[str]:
    """People that the unit does not hide, rows that are cut, canaries that crowd the data."""
    told, unit = [], plan.suite.training.unit
    people = max((one.patients for one in found.learned.values() if one.named > one.patients), default=0)
    if unit != "patient" and people:
        told.append(
            f"the data name {people:,} patients, some in several records: unit {unit} hides one {unit}, not "
            "a person; --unit patient hides all records of a person"
        )
    for row in rows:
        if row["cut"] is not None and row["cut"] > CUT_MOST:
            told.append(
                f"{row['cut']:.1%} of the rows of {row['method']} are cut, {row['answers_lost']:.1%} lose a "
                f"whole answer: {_longer(plan)}"
            )
        if row["canaries"] is not None and row["canaries"] > CANARIES_MANY:
            told.append(
                f"{row['canaries']:.0%} of the units of {row['method']} are canaries, more than a fifth: "
                "quality figures will tell little; more data helps, fewer canaries "
                "(--set candidates.canaries=N) prove less"
            )
    return told
