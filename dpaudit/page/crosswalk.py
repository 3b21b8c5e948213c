"""What three documents ask of such a release, in our own words, and what this run has to say to each.

EDPB Opinion 28/2024 on AI models (adopted 17 December 2024), NIST SP 800-226 on evaluating differential
privacy (March 2025), and the expert determination of the HIPAA Privacy Rule (45 CFR 164.514(b)(1)). A row
says what was measured, or that nothing was; it never says that a rule is met.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.page.identifiers import NOT_EXAMINED, identifiers
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import code, codes, placed, say

UNEXAMINED = say("{what}.", what=NOT_EXAMINED)


@dataclass(frozen=True)
class Crosswalk:
    """One document: what it is, and each question with the evidence of this run."""

    name: str
    about: str
    rows: tuple[tuple[str, Markup], ...]


def crosswalk(joins: Joins) -> tuple[Crosswalk, ...]:
    return (
        Crosswalk(
            "EDPB Opinion 28/2024",
            "The European data protection board on models that were trained on personal data",
            tuple(_edpb(joins)),
        ),
        Crosswalk(
            "NIST SP 800-226",
            "The guidelines of NIST on how to evaluate a promise of differential privacy",
            tuple(_nist(joins)),
        ),
        Crosswalk(
            "HIPAA, expert determination: 45 CFR 164.514(b)(1)",
            "What an expert weighs before health data count as freed of identities; the expert decides, not "
            "this page",
            tuple(_hipaa(joins)),
        ),
    )


# ---- what several documents ask for


def _secrets(joins: Joins) -> Markup:
    """What came out of the private adapter that gave away most."""
    names = {arm.arm for arm in joins.private}
    rows = [row for arm, row in joins.extraction.items() if arm in names and row.part.planted]
    if not rows:
        return UNEXAMINED
    at, worst = max(rows, key=lambda row: (row.part.found_rate or 0, row.part.found_upper))
    return say(
        "Planted secrets out of the private adapter with most ({arm}): {out}, at most {upper} of such "
        "secrets.",
        arm=code(worst.arm),
        out=joins.num.counted(at, "planted_found", "planted"),
        upper=joins.num(f"{at}/found_upper", "percent_up"),
    )


def _fields(joins: Joins) -> Markup:
    found = identifiers(joins)
    if not found.examined:
        return UNEXAMINED
    return say(
        "Looked for by their form: {names}. All other kinds: {not_examined}.",
        names=", ".join(name.partition(". ")[2] for name in found.examined),
        not_examined=NOT_EXAMINED,
    )


def _membership(joins: Joins) -> Markup:
    if not joins.report.recipes:
        return UNEXAMINED
    told = [row.arm for row in joins.report.recipes if row.tell]
    private = [arm for arm in told if arm in {one.arm for one in joins.private}]
    where = say("tell members from others on {arms}", arms=codes(private))
    return say(
        "Membership was attacked with planted rows; corrected for their number, the attacks {where}.",
        where=where if private else "tell nothing on any private adapter",
    )


def _claims(joins: Joins) -> Markup:
    parts = [
        say(
            "{arm} ε {epsilon}",
            arm=code(arm.arm),
            epsilon=joins.num(f"{at}/privacy/claim/epsilon", "epsilon"),
        )
        for at, arm in joins.arms
        if arm.private
    ]
    if not parts:
        return Markup("No adapter of this run is private.")
    delta = joins.num("/run/delta", "delta")
    return say("{claims}; δ {delta}.", claims=Markup(", ").join(parts), delta=delta)


def _verdicts(joins: Joins) -> Markup:
    parts = [say("{arm} {word}", arm=code(arm), word=row.part.verdict) for arm, row in joins.answers.items()]
    return say("Verdicts: {words}.", words=Markup(", ").join(parts)) if parts else UNEXAMINED


def _inside(joins: Joins) -> Markup:
    if not joins.report.inside:
        return UNEXAMINED
    return say("Noise, clip and sampling were looked at from inside. {words}", words=_verdicts(joins))


def _composed(joins: Joins) -> Markup:
    together = joins.report.together
    if together is None or together.composed_epsilon is None:
        return Markup("What several adapters spend together is not known here.")
    return say(
        "All private adapters of this run together: ε {epsilon} at δ {delta}.",
        epsilon=joins.num("/together/composed_epsilon", "two_up"),
        delta=joins.num("/together/composed_delta", "delta"),
    )


# ---- the documents


def _edpb(joins: Joins) -> Iterator[tuple[str, Markup]]:
    sampled = "Repeated sampling of planted secrets was computed" if joins.report.discoverable else None
    yield (
        "Can personal data be taken out of the model directly?",
        say("{secrets} {fields}", secrets=_secrets(joins), fields=_fields(joins)),
    )
    yield (
        "Can they come out in its answers, on purpose or not?",
        say(
            "{sampled}. Everyday prompts: {not_examined}.",
            sampled=sampled or say("Repeated sampling: {what}", what=NOT_EXAMINED),
            not_examined=NOT_EXAMINED,
        ),
    )
    yield (
        "Does this hold for every person, by all means that somebody may reasonably use?",
        Markup("ε speaks of any one unit and of any knowledge; each attack is one means among many."),
    )
    yield (
        "Were sources chosen and reduced beforehand?",
        say(
            "{what}: what was read, held out and cut stands under data and model identity.", what=NOT_EXAMINED
        ),
    )
    yield "Does the way of training limit what is learned of one person?", _claims(joins)
    yield (
        "Does it stand against known attacks?",
        say(
            "{membership} Inference of attributes, model inversion and reconstruction: {not_examined}.",
            membership=_membership(joins),
            not_examined=NOT_EXAMINED,
        ),
    )
    yield "Are answers filtered in use?", UNEXAMINED
    yield "Is the legal basis sound, and were the data processed lawfully?", UNEXAMINED
    yield (
        "Is it documented?",
        Markup("This page, report.json beside it, and the records of the run with their dates."),
    )


def _nist(joins: Joins) -> Iterator[tuple[str, Markup]]:
    run, counted = joins.report.run, any(arm.privacy.population_assumed for arm in joins.private)
    yield (
        "Whose presence is hidden?",
        say("One {unit}, by {relation}.", unit=run.unit, relation=run.relation.replace("_", " ")),
    )
    yield "How large are ε and δ?", _claims(joins)
    yield "What do several releases spend together?", _composed(joins)
    yield "Does the program do what the proof says?", _inside(joins)
    yield "Was tuning on the private data counted?", say("{what}: it is in no ε here.", what=NOT_EXAMINED)
    yield (
        "Does anything that was released beside depend on the data?",
        Markup(
            "Yes: the number of units was counted from the data, and rate, steps and noise reveal it."
            if counted
            else "The number of units was declared as public; other settings stand under identity."
        ),
    )
    yield "Is it still useful?", Markup("See privacy against quality.") if _has_pairs(joins) else UNEXAMINED
    yield "Is it worse for some groups than for others?", _groups(joins)
    yield (
        "Who sees the data before noise is added?",
        Markup("The trainer sees all records; nothing here protects against him."),
    )
    yield "Side channels: rounding of noise, timing, memory?", UNEXAMINED
    yield "Who has access to records, checkpoints and secrets?", UNEXAMINED


def _hipaa(joins: Joins) -> Iterator[tuple[str, Markup]]:
    yield (
        "Is the risk that a recipient identifies a person very small?",
        say(
            "Not decided here. {membership} {secrets}", membership=_membership(joins), secrets=_secrets(joins)
        ),
    )
    yield (
        "Who receives it, and what else does he have?",
        say("ε presumes a recipient who has everything else. The real recipient: {what}.", what=NOT_EXAMINED),
    )
    yield "Would the same facts about a person be found again elsewhere?", UNEXAMINED
    yield "Which other sources name the person?", UNEXAMINED
    yield (
        "Does a person stand out by rare values?",
        Markup(
            "Planted rows are meant to stand out more than real ones; real rare persons were not singled out."
        ),
    )
    yield "The listed identifiers", _fields(joins)
    yield "Are methods and results written down?", Markup("This page and report.json.")
    yield "Who is the expert?", Markup("Not stated here: the printed page has a block to sign.")


def _has_pairs(joins: Joins) -> bool:
    compared = joins.report.comparisons
    return bool(compared and any(pair.measure == "accuracy" for pair in compared.pairs))


def _groups(joins: Joins) -> Markup:
    compared = joins.report.comparisons
    rows = placed("/comparisons/pairs", compared.pairs if compared else ())
    if not any(row.part.margin and row.part.margin.worst for row in rows):
        return UNEXAMINED
    return say(
        "By kind of benchmark item, in the comparisons under quality. By groups of patients: {what}.",
        what=NOT_EXAMINED,
    )
