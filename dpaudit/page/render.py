"""A report as one self-contained HTML page. Sections decide what is said; the template places it."""

from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dpaudit import content
from dpaudit.findings.report import Report
from dpaudit.findings.verification import Verification
from dpaudit.page import (
    charts,
    extraction,
    figures,
    front,
    inside,
    internal,
    judge,
    limits,
    membership,
    quality,
    training,
)
from dpaudit.page import verdicts as verdict_section
from dpaudit.page.figures import ClaimRow, RocCurve
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers, placed
from dpaudit.page.svg import Look


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
        verdicts=verdict_section.verdicts(joins),
        quality=quality.quality(joins),
        membership=membership.membership(joins),
        inside=inside.inside(joins),
        extraction=extraction.extraction(joins),
        judge=judge.judge(joins),
        training=training.training(joins),
        internal=internal.internal(joins),
        limits=list(limits.limits(joins)),
        versions=list(report.run.versions),
    )


def render_verification(verification: Verification) -> str:
    """The page of one claim about a model that was trained elsewhere."""
    bound, name, look = verification.bound, verification.audited.kind, Look(0, 0)
    word, claimed = verification.verdict.verdict or "", verification.claim.epsilon
    row = ClaimRow(name, look, word, claimed, bound.epsilon_lower, bound.ceiling)
    roc = verification.performance.roc
    curve = RocCurve(name, look, roc.fpr, roc.tpr, roc.tpr_lower, roc.tpr_upper)
    drawn = {
        "claims": Markup(figures.claims([row], "claims")),
        "roc": Markup(figures.roc([curve], "roc")),
    }
    return _filled(
        "verify.html.j2",
        num=Numbers(verification.to_json()),
        r=verification,
        charts=drawn,
        recipes=placed("/recipes", verification.recipes),
    )


def _filled(template: str, **shown: Any) -> str:
    css = Markup((content.shipped("reports") / "page.css").read_text(encoding="utf-8"))
    return _environment().get_template(template).render(shown | {"css": css})


@cache
def _environment() -> Environment:
    """Kept, since a template takes longer to compile than to fill."""
    return Environment(
        loader=FileSystemLoader(content.shipped("reports")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
