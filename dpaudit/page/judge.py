"""Whether the answers are still good, by a judge that has shown what it sees."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.human import FEW
from dpaudit.findings.judgement import Passport, PassRate
from dpaudit.page import judge_tries, win_rates
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import code, join, say
from dpaudit.page.phrases import absence, asked
from dpaudit.page.win_rates import WinRates

SWAP = "same verdict in both orders"
REPEAT = "asked twice: same verdict"


@dataclass(frozen=True)
class ControlRow:
    """What the judge did with one kind of control."""

    at: str
    kind: str
    outcome: str
    is_tested: bool = True


@dataclass(frozen=True)
class JudgeSection:
    """The section as the template places it."""

    absent: Markup | None
    asked: Markup | None  # when it was; None where nothing was judged
    compared: Markup | None  # None where the judge is not fit
    rates: WinRates | None  # likewise
    unfit: Markup | None
    fit: Markup | None  # the judge passed
    controls: tuple[ControlRow, ...]
    reasons: tuple[str, ...] = ()  # where each reason stands why the judge is not fit
    people: Markup | None = None
    who: tuple[Markup, ...] = ()
    tried: tuple[Markup, ...] = ()


def judge(joins: Joins) -> JudgeSection:
    absent, judgement = absence(joins.report.stages.judge, "win rates"), joins.report.judge
    if judgement is None:
        return JudgeSection(absent, None, None, None, None, None, (), tried=tuple(judge_tries.tried(joins)))
    when = asked(joins.num, "/asked/judging", joins.report.asked["judging"])
    rubric = code(judgement.rubric)
    compared = say(
        "Answers to the same prompts, compared by the judge {rubric} ({title}){orders}. One half "
        "means that neither side is better. A comparison without a verdict counts against the arm in the "
        "lower limit, and for it in the upper limit.",
        rubric=rubric,
        title=judgement.title.lower(),
        orders=" in both orders" if judgement.passport.swap else "",
    )
    unfit = say(
        "<strong>The judge {rubric} is not fit, so no win rate is shown.</strong>",
        rubric=rubric,
    )
    return JudgeSection(
        absent=absent,
        asked=when,
        compared=compared if judgement.fit else None,
        rates=win_rates.of(joins, judgement) if judgement.fit else None,
        unfit=None if judgement.fit else unfit,
        fit=say(
            "<strong>The judge {rubric} is fit:</strong> it passed every kind of control that was tested.",
            rubric=rubric,
        )
        if judgement.fit
        else None,
        controls=tuple(_controls(judgement.passport)),
        reasons=tuple(
            f"/judge/passport/reasons/{number}" for number in range(len(judgement.passport.reasons))
        ),
        people=_people(joins),
        who=tuple(judge_tries.who(joins.num, judgement)),
        tried=tuple(judge_tries.tried(joins)),
    )


def _people(joins: Joins) -> Markup:
    """How far the judge agrees with people, or that nobody knows."""
    found, num, at = joins.report.people, joins.num, "/people"
    if found is None:
        return say(
            "Whether the judge agrees with people was not tested: {command} was not given a table of "
            "people's verdicts on these answers.",
            command=code("dpaudit judge validate --human FILE.csv"),
        )
    kappa = say(
        "Cohen's kappa is {kappa} {limits}.",
        kappa=num(f"{at}/kappa", "three"),
        limits=num.interval(at, "lower", "upper", "three"),
    )
    none = "Cohen's kappa cannot be told: one and the same verdict was given to everything."
    few = say(" Below {few} prompts this tells little.", few=FEW) if found.is_few else ""
    return say(
        "People gave {verdicts} verdicts on {prompts} of {judged} judged prompts; the judge's is the same in "
        "{share} {limits}. {kappa} What has no verdict of the judge is left out: {unscored}.{few}",
        verdicts=num(f"{at}/verdicts", "count"),
        prompts=num(f"{at}/prompts", "count"),
        judged=num(f"{at}/judged", "count"),
        share=num(f"{at}/agreement", "percent_one"),
        limits=num.interval(at, "agreement_lower", "agreement_upper", "percent"),
        kappa=none if found.kappa is None else kappa,
        unscored=num(f"{at}/unscored", "count"),
        few=few,
    )


def _controls(passport: Passport) -> Iterator[ControlRow]:
    at = "/judge/passport"
    for group, rates in (("faults", passport.faults), ("twins", passport.twins)):
        for kind, rate in rates.items():
            yield ControlRow(join(f"{at}/{group}", kind), kind, _outcome(rate, passport.minimum))
    for kind in passport.untested:
        yield ControlRow(join(f"{at}/untested", kind), kind, "not tested", is_tested=False)
    if passport.swap:
        yield ControlRow(f"{at}/swap", SWAP, _outcome(passport.swap, passport.minimum))
    if passport.repeat:
        yield ControlRow(f"{at}/repeat", REPEAT, "counts neither way")


def _outcome(rate: PassRate, minimum: float) -> str:
    return "passed" if rate.lower >= minimum else "✕ below the minimum"
