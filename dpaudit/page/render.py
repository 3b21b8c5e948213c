"""A report as one self-contained HTML page. Sections decide what is said; the template places it."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dpaudit import content
from dpaudit.findings.observed import ObservedVerification
from dpaudit.findings.public import PublicReport
from dpaudit.findings.release import MAY, MUST_NOT, NOT_ESTABLISHED
from dpaudit.findings.report import Report
from dpaudit.findings.verification import Verification
from dpaudit.page import (
    charts,
    contamination,
    crosswalk,
    extraction,
    front,
    identifiers,
    identity,
    inside,
    internal,
    judge,
    limits,
    measures,
    membership,
    observed,
    preferences,
    quality,
    release,
    rerun,
    tradeoff,
    training,
    verified,
)
from dpaudit.page import verdicts as verdict_section
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers
from dpaudit.page.singular import singular


def render(report: Report) -> str:
    """The page. Text from the report is escaped; a name that the template misspells is an error."""
    num = Numbers(report.to_json())
    joins = Joins(report, num)
    return _filled(
        "page.html.j2",
        num=num,
        report=report,
        charts=charts.charts(report),
        front=front.front(joins),
        release=release.release(joins),
        identity=identity.identity(joins),
        tradeoff=tradeoff.tradeoff(joins),
        identifiers=identifiers.identifiers(joins),
        crosswalk=crosswalk.crosswalk(joins),
        verdicts=verdict_section.verdicts(joins),
        quality=quality.quality(joins),
        contamination=contamination.contamination(joins),
        measures=measures.measures(joins),
        preferences=preferences.preferences(joins),
        membership=membership.membership(joins),
        inside=inside.inside(joins),
        extraction=extraction.extraction(joins),
        judge=judge.judge(joins),
        training=training.training(joins),
        rerun=rerun.rerun(joins),
        internal=internal.internal(joins),
        limits=list(limits.limits(joins)),
        versions=list(report.run.versions),
    )


def render_public(report: PublicReport) -> str:
    """The page of the public edition."""
    css_of = {MAY: "may", MUST_NOT: "must-not", NOT_ESTABLISHED: "open"}
    return _filled("public.html.j2", num=Numbers(report.to_json()), r=report, css_of=css_of)


def render_verification(verification: Verification) -> str:
    """The page of claims about models that were trained elsewhere."""
    models = verified.models(verification)
    return _filled(
        "verify.html.j2",
        num=Numbers(verification.to_json()),
        r=verification,
        models=models,
        claims=verified.claims(verification, models),
        charts=verified.charts(verification, models),
        to_get_power=verified.ways_to_power(verification),
    )


def render_observed(found: ObservedVerification) -> str:
    """The page of claims about a training that was observed from inside."""
    return _filled(
        "observed.html.j2",
        num=Numbers(found.to_json()),
        r=found,
        claims=observed.claims(found),
        checks=observed.checks(found),
    )


def _filled(template: str, **shown: Any) -> str:
    css = Markup((content.shipped("reports") / "page.css").read_text(encoding="utf-8"))
    return singular(_environment().get_template(template).render(shown | {"css": css}))


@cache
def _environment() -> Environment:
    """Kept, since a template takes longer to compile than to fill."""
    folder = content.shipped("reports")
    return Environment(
        loader=FileSystemLoader(folder),
        bytecode_cache=_compiled(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _compiled(folder: Path) -> FileSystemBytecodeCache | None:
    """Keeps compiled templates beside them where Python keeps compiled files; None where it keeps none."""
    if sys.dont_write_bytecode or not os.access(folder, os.W_OK):
        return None
    kept = folder / "__pycache__"
    kept.mkdir(exist_ok=True)
    return FileSystemBytecodeCache(str(kept), "%s.cache") if os.access(kept, os.W_OK) else None
