"""The scorecard of files as it is printed: figures, what was set aside, the faults of the original."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpaudit.data import answer_files
from dpaudit.data.answer_files import Answer
from dpaudit.errors import UsageError
from dpaudit.judging import scorecard
from dpaudit.judging.scorecard import LONGEST, NON_MEMBERS, PRIVACY, WIN, Figure, Scorecard

FAULTS = (  # figure, what score.py did, what is done here
    (WIN, "credited the judge's win to the other side", "the rate is that of the answers scored"),
    (
        WIN,
        "took 赢 anywhere in the judge's reply as a win, in 没有赢 too",
        "a verdict is the judge's last line",
    ),
    (WIN, "asked the judge in one order alone", "dpaudit judge asks in both"),
    (
        PRIVACY,
        "compared what members give away with nothing",
        "non-members stand beside, with the contrast",
    ),
    (
        PRIVACY,
        "scored an answer of over 2,048 characters as perfectly private",
        "such an answer, an empty or a cut one counts as revealed",
    ),
    ("composite", "placed a model that collapsed above an honest one", "a model with signs of it gets none"),
)


def values(
    answers: Path, references: Path | None = None, win: float | None = None, longest: int | None = None
) -> dict[str, Any]:
    """The scorecard of a file of answers, with that of references, as one mapping. `win`: a judge's win rate.

    Raises UsageError where a file, a row or the rate is not as it should be, or nothing can be measured.
    """
    if win is not None and not 0 <= win <= 1:
        raise UsageError("--win", "a rate between 0 and 1", f"{win:g}", "55 percent is 0.55")
    items = answer_files.read(answers, references)
    rate = None if win is None else Figure(WIN, win, meaning="as typed; higher is better")
    card = scorecard.of(items, rate, longest or LONGEST)
    if not any(figure.items for figure in card.figures):
        raise UsageError(
            str(answers),
            "names such as noun_definition_12 or privacy_3, or references with 【答案】",
            f"no item that can be measured, of {len(items):,}",
            answer_files.DOCS,
        )
    composites = [figure for figure in (card.composite, card.partial) if figure and figure.value is not None]
    faults = [dict(zip(("figure", "original", "here"), fault, strict=True)) for fault in FAULTS]
    return {
        "composite": card.composite.value,
        "composite_not_computable": reason(card),
        "collapsed": card.collapsed,
        "warning": "; ".join(card.warnings) or None,
        "scorecard": [asdict(figure) for figure in (*card.figures, *composites)],
        "set_aside": [asdict(aside) for aside in card.aside],
        "faults": faults,
        "notes": [{"note": note} for note in _notes(card, items)],
    }


def reason(card: Scorecard) -> str | None:
    """Why there is no composite."""
    names = {
        "collapse": "signs of a model that collapsed",
        "refusal": "the model refuses",
        "no letter": "choices cannot be read",
    }
    told = [f"{name}: {'; '.join(seen)}" for kind, name in names.items() if (seen := card.of_kind(kind))]
    if told:
        return "; ".join(told)
    if not card.knows:
        return "nothing shows that the model knows more than one that has learned nothing"
    return f"without {' and '.join(card.missing)}" if card.missing else None


def _notes(card: Scorecard, items: Sequence[Answer]) -> list[str]:
    """What a reader of the figures should know of them."""
    names = {figure.name for figure in card.figures}
    notes = ["no figure here says anything about epsilon: dpaudit verify tests that claim"]
    if WIN not in names:
        notes.append("win rate left out: no judge was asked; the rate of a judge found fit goes into --win")
    elif card.composite.value is not None:
        notes.append("the win rate was typed in without an interval, so the composite has none either")
    if PRIVACY not in names:
        return notes
    notes.append(
        "members and non-members are as the file names them: they may differ in more than training"
        if NON_MEMBERS in names
        else 'privacy without a contrast: mark items that were not trained on with "member": false'
    )
    if all(item.is_cut is None for item in items):
        notes.append("whether an answer was cut off is not known: no row has finish_reason")
    return notes
