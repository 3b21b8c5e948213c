"""Phrases that several sections of the page use."""

from collections.abc import Sequence

from markupsafe import Markup

from dpaudit.findings.baselines import Blind, Near
from dpaudit.findings.declared import ClaimOfRun
from dpaudit.findings.report import Asked, Stage
from dpaudit.page.numbers import Numbers, code, codes, say

MARKS = {"refuted": "✕", "not refuted": "○", "no power": "–"}
ABSENT = Markup("–")
NOT_APPLICABLE = Markup("Membership says nothing of a claim that hides labels only.")
NOT_PLANNED = Markup("The suite asks for no judging.")


def mark(word: str | None) -> Markup:
    """The sign of a verdict, which no screen reader speaks."""
    return say('<span class="mark" aria-hidden="true">{sign}</span>', sign=MARKS.get(word or "", "·"))


def absence(stage: Stage, what: str) -> Markup | None:
    """Why a section is not filled and what to type; None where its stage is done."""
    command = code(stage.command)
    if stage.state == "not run":
        purpose = f" to fill in {what}" if what else ""
        return say("Not run: type {command}{purpose}.", command=command, purpose=purpose)
    if stage.state == "out of date":
        return say("Out of date, so it is not shown: type {command} again.", command=command)
    if stage.state == "partial":
        return say("Not complete: type {command} for {arms}.", command=command, arms=codes(stage.absent))
    return {"not applicable": NOT_APPLICABLE, "not planned": NOT_PLANNED}.get(stage.state)


def asked(num: Numbers, at: str, entry: Asked | ClaimOfRun) -> Markup:
    """Whether something was declared before training, and when."""
    word = "declared before training" if entry.mark == "declared" else "added later"
    return say("{word} ({date})", word=word, date=num(f"{at}/date"))


def is_alarmed(blind: Blind | None) -> bool:
    """Whether texts reveal the coins: then no comparison is valid."""
    return blind is not None and blind.alarm


def broken_coins(num: Numbers, at: str, whose: str, barred: str) -> Markup:
    """What a baseline that alarms forbids; `at` is its place."""
    return say(
        "<strong>{barred}: the texts alone show which {whose} were trained on</strong> (AUC {auc}, p {p}). "
        "Fair coins allow that less than once in a thousand times. The coin file is broken, so guesses of "
        "it prove nothing.",
        barred=barred,
        whose=whose,
        auc=num.area(at),
        p=num(f"{at}/p_value", "p"),
    )


def no_baseline(blind: Blind) -> str:
    return blind.finding.replace("no baseline", "none")


def is_crossed(near: Near | None) -> bool:
    """Whether texts that were left out have near-duplicates in training."""
    return near is not None and near.nonmembers_in_training > 0


def adapters(names: Sequence[object]) -> str:
    return "adapters" if len(names) > 1 else "adapter"
