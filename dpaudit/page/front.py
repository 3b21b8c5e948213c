"""The head of the page: what was run, what must be known before any figure is read."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.report import Lost, by_command
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, code, codes, placed, say


@dataclass(frozen=True)
class Front:
    """The banners and links of the page's head, and the notes below the identity."""

    banners: tuple[Markup, ...]
    notes: tuple[Markup, ...]
    links: tuple[tuple[str, str], ...]  # section, word


def front(joins: Joins) -> Front:
    links = [
        ("release", "Release"),
        ("identity", "Identity"),
        ("verdicts", "Claims"),
        ("tradeoff", "Trade-off"),
        ("attack", "Membership"),
        ("extraction", "Extraction"),
        *([("inside", "Mechanism")] if joins.report.inside else []),
        ("quality", "Quality"),
        ("judge", "Judge"),
        ("training", "Engineering"),
        ("internal", "Internal"),
        ("limits", "Not tested"),
        ("crosswalk", "Crosswalk"),
        ("terms", "Terms"),
    ]
    return Front(tuple(_banners(joins)), tuple(_notes(joins)), tuple(links))


def _banners(joins: Joins) -> Iterator[Markup]:
    run, num = joins.report.run, joins.num
    if joins.is_insecure:
        seed = Markup("")
        if run.insecure_seed is not None:
            seed = say(" ({seed})", seed=num("/run/insecure_seed"))
        yield say(
            "<strong>Epsilon not claimed: the noise is reproducible.</strong> This run fixed its coins, "
            "sampling and noise with an insecure seed{seed}, so that it can be repeated. Anybody who knows "
            "the seed can subtract the noise. Use such a run to learn or to test, never to release a model.",
            seed=seed,
        )
    if run.random_weights:
        yield Markup(
            "<strong>The base's weights are random.</strong> Memory and time are those of a model of this "
            "shape. Scores, quality and answers mean nothing."
        )
    if run.assumed_public:
        yield Markup(
            "<strong>ε covers this run only.</strong> It started from an adapter without a ledger; its "
            "training data were assumed to be public."
        )
    if run.corpus_words:
        yield Markup(
            "<strong>ε does not cover the words of the canaries.</strong> Their secrets are made of rare "
            "words of the records that the claims are about, and an adapter that gives away a secret gives "
            "away those words."
        )
    yield from _other_runs(joins)
    for at, arm in joins.arms:
        if arm.private and arm.trainings > 1:
            yield say(
                "<strong>{arm} was trained {trainings} times on the same records.</strong> Each of its "
                "adapters is a release of its own. Its ε counts the present adapter only: anybody who also "
                "had an earlier one faces more.",
                arm=code(arm.arm),
                trainings=num(f"{at}/trainings", "count"),
            )
    if joins.report.gone:
        files = [
            say("{files} (type {command})", files=codes(files), command=code(command))
            for command, files in by_command(joins.report.gone).items()
        ]
        yield say(
            "<strong>Results of this run are gone</strong>, and their content is not on this page: {files}.",
            files=Markup(", ").join(files),
        )
    for lost in placed("/records_lost", joins.report.records_lost):
        yield _lost(joins, lost)


def _other_runs(joins: Joins) -> Iterator[Markup]:
    """The runs that this one repeats, those that repeat it, and all on the same data: each is a release."""
    run = joins.report.run
    if run.repeats:
        yield say(
            "<strong>This run repeats {runs} with fresh coins.</strong> The questions of all of them are "
            "tested in one family, and each claim says what was found before. A repeat is a further release "
            "on the same records.",
            runs=codes(run.repeats),
        )
    if run.repeats_gone:
        yield say(
            "<strong>What this run repeats is gone: {runs}.</strong> Without it no claim of this page can be "
            "concluded, because all are tested in one family. Restore its folder from a copy into the folder "
            "that holds this run, then type {command}.",
            runs=codes(run.repeats_gone),
            command=code(joins.report.stages.audit.command),
        )
    if run.repeated_by:
        yield say(
            "<strong>This run was repeated with fresh coins: {runs}.</strong> Read that page too: it "
            "tests both in one family.",
            runs=codes(run.repeated_by),
        )
    if run.same_data:
        yield say(
            "<strong>Trained on the same data: {runs}.</strong> Each run is a release of its own. {spent}",
            runs=codes(run.same_data),
            spent=_spent_with(joins),
        )


def _spent_with(joins: Joins) -> Markup:
    """What all private adapters on the same data spend together."""
    together, num = joins.report.together, joins.num
    beside = together.beside if together else None
    if beside is None or beside.runs != joins.report.run.same_data:
        command = code(joins.report.stages.audit.command)
        return say("What they spend together is not composed yet: type {command}.", command=command)
    if beside.epsilon is None:
        return say("What they spend together is not known: {why}.", why=num("/together/beside/unknown"))
    return say(
        "Anybody who has all their private adapters and those of this run, each training once, faces ε = "
        "{epsilon} at δ = {delta}.",
        epsilon=num("/together/beside/epsilon", "two_up"),
        delta=num("/together/beside/delta", "delta"),
    )


def _lost(joins: Joins, lost: Placed[Lost]) -> Markup:
    at, loss = lost
    if loss.record.startswith("custody/"):
        return say(
            "<strong>A list of what this run had is lost.</strong> {file} was written again at {date}: "
            "results and trainings that were deleted before then are not noticed.",
            file=code(loss.record),
            date=joins.num(f"{at}/date"),
        )
    what = Markup("The list of its records")
    if loss.record != "records":
        what = say("Its record {record}", record=code(loss.record))
    entries = Markup("")
    if loss.entries is not None:
        word = "entry" if loss.entries == 1 else "entries"
        entries = say(" with {entries} {word}", entries=joins.num(f"{at}/entries", "count"), word=word)
    return say(
        "<strong>Some settings of this run are lost.</strong> {what} was written again at {date} in place "
        "of a record{entries} that was gone: earlier claims and settings may be missing here.",
        what=what,
        date=joins.num(f"{at}/date"),
        entries=entries,
    )


def _notes(joins: Joins) -> Iterator[Markup]:
    counted = ""
    if any(arm.privacy.population_assumed for arm in joins.private):
        counted = (
            ", and sampling rate, steps and σ, which reveal the number of units, because it was counted "
            "from the data"
        )
    yield say(
        "<strong>This is the full page, for those who hold the records.</strong> No claim on it covers its "
        "own publication. Apart from the curves and tables below, these figures come from private records "
        "without noise: counts of the data, held-out bits per byte, preference figures on held-out pairs, "
        "win rates on held-out prompts, which benchmark items stand in the training text, and tokens, times "
        "and cut sequences of the training{counted}.",
        counted=counted,
    )
    model = joins.report.run.model
    if model.startswith("builtin:"):
        yield say(
            "<strong>{model} is a teaching model.</strong> It memorises what a large model might not. Its "
            "figures demonstrate the method. They are not the risk of a model that you use.",
            model=model,
        )
