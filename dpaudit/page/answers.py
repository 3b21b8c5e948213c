"""A verdict in sentences: which question spoke, what it would have caught, and why another could not tell."""

from collections.abc import Iterator

from markupsafe import Markup

from dpaudit.findings.answers import Answered, Question
from dpaudit.page.numbers import Numbers, Placed, code, placed, say

DO_NOT_RELEASE = Markup("Do not release this adapter under this claim.")
FAMILY = Markup(
    "This is a test within one family, sampled Gaussian noise, and no bound for any mechanism. Whoever "
    "doubts it trains a repeat with fresh coins (<code>dpaudit train --repeat-of RUN</code>): that stands "
    "beside this one and is a second release."
)


def sentences(num: Numbers, answer: Placed[Answered]) -> Iterator[Markup]:
    """What the verdict on a claim says, a paragraph each."""
    at, found = answer
    asked = placed(f"{at}/questions", found.questions)
    if found.verdict == "refuted":
        yield from _refuted(num, answer, asked)
        return
    if found.verdict == "not refuted":
        yield Markup(
            "Nothing that was measured contradicts the claim. It is not a proof that the claim is true."
        )
    else:
        yield Markup("This audit cannot tell. It says nothing for the claim, and nothing against it.")
    yield from _kept(num, asked)
    for index, _ in enumerate(found.unseen):
        yield say("<strong>Not looked at from inside:</strong> {what}.", what=num(f"{at}/unseen/{index}"))
    yield from _before(num, answer)


def _kept(num: Numbers, asked: list[Placed[Question]]) -> Iterator[Markup]:
    """What questions that do not refute would have caught, or why they could not tell."""
    for question in asked:
        yield _able(num, question) if question.part.is_shown_able else _unable(num, question)


def _before(num: Numbers, answer: Placed[Answered]) -> Iterator[Markup]:
    """What is said of the claim in the runs that this one repeats."""
    for place, run in placed(f"{answer.at}/before", answer.part.before):
        ends = Markup("")
        if run.verdict == "refuted":
            ends = Markup(" That stays: a repeat stands beside it and clears nothing.")
            if run.own_page not in (None, "refuted"):
                ends = Markup(" Its own page did not say so; the family of both runs does.")
        yield say(
            "In {run}, which this run repeats with other coins, the same claim is "
            "<strong>{verdict}</strong>: {reason}.{ends}",
            run=code(run.run),
            verdict=run.verdict,
            reason=num(f"{place}/reason"),
            ends=ends,
        )


def _refuted(num: Numbers, answer: Placed[Answered], asked: list[Placed[Question]]) -> Iterator[Markup]:
    at, found = answer
    for index, _ in enumerate(found.failed):
        yield say("<strong>The claim is false:</strong> {why}.", why=num(f"{at}/failed/{index}"))
    for place, question in asked:
        if question.refutes and question.side == "outside":
            yield say(
                "<strong>The claim is false:</strong> the right guesses of the attack prove an ε of at "
                "least {lower} ({tested}). This relies on nothing that the trainer says.",
                lower=num(f"{place}/epsilon_lower", "two_down"),
                tested=_tested(num, place),
            )
        elif question.refutes:
            yield say(
                '<strong>The claim is false:</strong> <a href="#inside">seen from inside</a>, the training '
                "of {arm} did not run the mechanism of its ledger ({tested}). {family}",
                arm=code(question.arm),
                tested=_tested(num, place),
                family=FAMILY,
            )
    yield from _before(num, answer)
    if not found.failed and not any(question.part.refutes for question in asked):
        yield Markup("This training by itself does not refute it:")
        yield from _kept(num, asked)
    yield DO_NOT_RELEASE


def _tested(num: Numbers, place: str) -> Markup:
    return say(
        "p {p}, tested at {level}", p=num(f"{place}/p_value", "p"), level=num(f"{place}/level", "number")
    )


def _able(num: Numbers, question: Placed[Question]) -> Markup:
    """What the question would have caught."""
    place, part = question
    power = num(f"{place}/power", "percent_down")
    if part.side == "inside":
        return say(
            '<a href="#inside">Seen from inside</a>, a training of {arm} with {violation} would have been '
            "refuted {power} of the time; this one is not (p {p}).",
            arm=code(part.arm),
            violation=part.violation,
            power=power,
            p=num(f"{place}/p_value", "p"),
        )
    return say(
        "From outside, an adapter with no noise at all, such as {control}, would have been refuted {power} "
        "of the time; from this one the attack proves an ε of at least {lower}.",
        control=code(part.control or ""),
        power=power,
        lower=num(f"{place}/epsilon_lower", "two_down"),
    )


def _unable(num: Numbers, question: Placed[Question]) -> Markup:
    """Why the question could not tell."""
    place, part = question
    seen = Markup("From outside")
    if part.side == "inside":
        seen = say('<a href="#inside">Seen from inside</a> {arm}', arm=code(part.arm))
    if part.note is not None:
        return say("{seen}, it cannot tell: {note}.", seen=seen, note=num(f"{place}/note"))
    return say(
        "{seen}, it cannot tell: {violation} would have been refuted {power} of the time only.",
        seen=seen,
        violation=part.violation,
        power=num(f"{place}/power", "percent_down"),
    )
