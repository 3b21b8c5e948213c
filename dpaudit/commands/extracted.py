"""What the attacks of kind extract found, as rows: planted secrets, sampled answers, personal fields."""

from collections.abc import Sequence

from dpaudit.commands.outcomes import audits_of, narrowed
from dpaudit.commands.states import Row, Rows
from dpaudit.findings.extraction import (
    Counts,
    Discoverable,
    Exposure,
    Extraction,
    PersonalFields,
    Tally,
)
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan


def extraction_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm: planted secrets that came out, never-planted ones that did, with the upper limit of each rate;
    their exposures.

    `extrapolated` counts the secrets whose exposure rests on a sample of their space. The medians, in bits,
    are those of exact exposures, and of extrapolated ones where there is no exact one.
    """
    return [
        {
            "arm": audit.arm,
            "recipe": audit.recipe,
            **_counted(audit),
            **_exposures(audit),
            "extrapolated": _size(audit.exposure_extrapolated),
        }
        for audit in audits_of(run_dir, plan)
        if isinstance(audit, Extraction)
    ]


def _counted(counts: Counts) -> Row:
    return {
        "planted": counts.planted,
        "planted_found": counts.planted_found,
        "found_upper": counts.found_upper,
        "controls": counts.controls,
        "controls_found": counts.controls_found,
        "controls_upper": counts.controls_upper,
    }


def _exposures(audit: Extraction) -> Row:
    exposure = audit.exposure if _size(audit.exposure) else audit.exposure_extrapolated
    return {
        "median_planted": exposure.median_planted if exposure else None,
        "median_control": exposure.median_control if exposure else None,
        "space_bits": exposure.space_bits if exposure else None,
    }


def _size(exposure: Exposure | None) -> int:
    """How many secrets have an exposure of a kind."""
    return len(exposure.planted) + len(exposure.controls) if exposure else 0


def discoverable_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm and number of attempts: secrets that come out with the recipe's probability or more."""
    return [
        {"arm": audit.arm, "recipe": audit.recipe, "queries": rate.queries, "p": audit.p, **_counted(rate)}
        for audit in audits_of(run_dir, plan)
        if isinstance(audit, Discoverable)
        for rate in audit.rates
    ]


def pii_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm: personal fields that were completed, of units trained on and of units left out; a row for each
    kind that some unit has, then all.
    """
    rows: Rows = []
    for audit in audits_of(run_dir, plan):
        if isinstance(audit, PersonalFields):
            head = {"arm": audit.arm, "recipe": audit.recipe}
            for kind in audit.by_kind:
                row = _fields_row(kind.field, kind.members, kind.non_members, None)
                if row["fields"] or row["others_fields"] or row["given"]:
                    rows.append(head | row)
            out = audit.members.units_out
            rows.append(head | _fields_row("all", audit.members, audit.non_members, out))
    return rows


def _fields_row(field: str, members: Tally, others: Tally, units_out: int | None) -> Row:
    return {
        "field": field,
        "completed": members.completed,
        "fields": members.fields,
        "upper": members.upper if members.fields else None,  # nothing tried, nothing known
        "others_completed": others.completed,
        "others_fields": others.fields,
        "given": members.given + others.given,
        "units_out": units_out,
    }


def tables(
    run_dir: RunDir, plan: Plan, arms: Sequence[str] | None = None, recipes: Sequence[str] | None = None
) -> dict[str, Rows]:
    """What the recipes of kind extract found, a table for each that found anything."""
    found_by = {"extraction": extraction_rows, "discoverable": discoverable_rows, "pii": pii_rows}
    by_table = {key: narrowed(rows(run_dir, plan), arms, recipes) for key, rows in found_by.items()}
    return {key: rows for key, rows in by_table.items() if rows or key == "extraction"}
