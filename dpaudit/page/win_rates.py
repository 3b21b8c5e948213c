"""What a judge said of adapters: their win rates with what must be known before them, trends, answers side by
side.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.judgement import Adjusted, Judgement, Scores, WinRate, WinTrend
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers, as_is, code, codes, join, placed, say
from dpaudit.page.phrases import ABSENT

COLUMNS = (
    "win rate",
    "corrected for the judge's errors",
    "at equal lengths",
    "right answers, its own and the other's",
    "cut answers, its own and the other's",
    "prompts, and facts",
    "won, tied, lost",
    "unscored",
)
SCORES = "mean score by its criteria, its own and the other's, and their difference"
SHOWN = 0.05  # p-value at which a trend is called shown


@dataclass(frozen=True)
class PairRow:
    """One adapter against another model, and a cell a column."""

    arm: str
    against: str
    role: str
    cells: tuple[Markup, ...]


@dataclass(frozen=True)
class AnswerRow:
    """A model's answer to an example's prompt."""

    model: str
    answer: Markup
    right: str


@dataclass(frozen=True)
class ExampleTable:
    """A prompt with its reference and the answers of all models."""

    prompt: Markup
    reference: Markup
    answers: tuple[AnswerRow, ...]


@dataclass(frozen=True)
class WinRates:
    """What the template places where the judge is fit."""

    columns: tuple[str, ...]
    common: tuple[Markup, ...]  # what must be known before every rate
    pairs: tuple[PairRow, ...]
    notes: tuple[Markup, ...]
    trends: tuple[Markup, ...]
    not_compared: tuple[Markup, ...]
    examples: tuple[ExampleTable, ...]
    no_examples: Markup | None

    @property
    def first(self) -> tuple[PairRow, ...]:
        """The comparisons with an adapter without noise: what privacy cost."""
        return tuple(pair for pair in self.pairs if pair.role.startswith("without noise"))

    @property
    def others(self) -> tuple[PairRow, ...]:
        return tuple(pair for pair in self.pairs if pair not in self.first)


def of(joins: Joins, judgement: Judgement) -> WinRates:
    num, common = joins.num, judgement.common_cautions()
    return WinRates(
        columns=(*COLUMNS, SCORES) if _has_scores(judgement) else COLUMNS,
        common=tuple(_cautions(num, "/judge/pairs/0", judgement.pairs[0], common)) if common else (),
        pairs=tuple(
            PairRow(
                pair.arm,
                pair.against,
                pair.role,
                tuple(_cells(num, at, pair, common, _has_scores(judgement))),
            )
            for at, pair in placed("/judge/pairs", judgement.pairs)
        ),
        notes=tuple(_notes(num, judgement)),
        trends=tuple(_trend(num, at, found) for at, found in placed("/judge/trends", judgement.trends)),
        not_compared=tuple(
            say(
                "{arm} is not compared with {role}: {reason}.",
                arm=code(row.arm),
                role=row.role,
                reason=num(f"{at}/reason"),
            )
            for at, row in placed("/judge/not_compared", judgement.not_compared)
        ),
        examples=tuple(_examples(num, judgement)),
        no_examples=_no_examples(num, judgement),
    )


def _cautions(num: Numbers, at: str, pair: WinRate, wanted: Collection[str]) -> Iterator[Markup]:
    for number, line in enumerate(pair.cautions):
        if line in wanted:
            yield num(f"{at}/cautions/{number}")


def _has_scores(judgement: Judgement) -> bool:
    return any(pair.scores for pair in judgement.pairs)


def _cells(
    num: Numbers, at: str, pair: WinRate, common: Collection[str], has_scores: bool
) -> Iterator[Markup]:
    rate = _rate(num, at, "win_rate")
    cautions = _cautions(num, at, pair, set(pair.cautions) - set(common))
    yield say("{rate}{cautions}", rate=rate, cautions=Markup("").join(map(_small, cautions)))
    yield _adjusted(num, f"{at}/corrected", pair.corrected)
    yield _adjusted(num, f"{at}/equal_length", pair.equal_length)
    yield _correct(num, f"{at}/correct") if pair.correct else Markup("not known")
    yield _cut(num, at) if pair.arm_cut is not None and pair.against_cut is not None else Markup("not known")
    yield say("{prompts}, {facts}", prompts=num(f"{at}/prompts", "count"), facts=num(f"{at}/facts", "count"))
    counts = (num(f"{at}/{name}", "count") for name in ("wins", "ties", "losses"))
    yield Markup(" / ").join(counts)
    yield num(f"{at}/unscored", "count")
    if has_scores:
        yield _scores(num, f"{at}/scores", pair.scores) if pair.scores else ABSENT


def _scores(num: Numbers, at: str, found: Scores) -> Markup:
    limits = num.interval(at, "lower", "upper", "signed_three") if found.lower is not None else ""
    return say(
        "{mine} and {theirs}<br>{difference} {limits}",
        mine=num(f"{at}/arm", "three"),
        theirs=num(f"{at}/against", "three"),
        difference=num(f"{at}/difference", "signed_three"),
        limits=limits,
    )


def _small(line: Markup) -> Markup:
    return say('<br><span class="beside">{line}</span>', line=line)


def _rate(num: Numbers, at: str, name: str) -> Markup:
    limits = num.interval(at, "lower", "upper", "percent")
    return say("{rate} {limits}", rate=num(f"{at}/{name}", "percent_one"), limits=limits)


def _adjusted(num: Numbers, at: str, found: Adjusted) -> Markup:
    if found.rate is None:
        return say("{dash}{why}", dash=ABSENT, why=_small(num(f"{at}/absent")))
    return _rate(num, at, "rate")


def _correct(num: Numbers, at: str) -> Markup:
    return say(
        "{mine} and {theirs} of {known}",
        mine=num(f"{at}/arm_right", "count"),
        theirs=num(f"{at}/against_right", "count"),
        known=num(f"{at}/known", "count"),
    )


def _cut(num: Numbers, at: str) -> Markup:
    return say(
        "{mine} and {theirs}",
        mine=num(f"{at}/arm_cut", "percent"),
        theirs=num(f"{at}/against_cut", "percent"),
    )


def _notes(num: Numbers, judgement: Judgement) -> Iterator[Markup]:
    yield Markup(
        "<em>Corrected</em>: the rate that a judge without errors would have found, if real differences are "
        "judged like the faults planted in its controls. Real ones are often finer, and then it corrects too "
        "little. <em>At equal lengths</em>: what a logistic regression on the difference in characters "
        "predicts where there is none."
    )
    yield Markup(
        "<em>Right</em>: the answer names the drugs, doses, warnings and numbers of the reference answer "
        "and no others, found by rules. Of long answers few are right in this sense, and a prompt whose "
        "reference has none does not count. Prompts about one fact are one draw. Intervals are not adjusted "
        "for the number of comparisons."
    )
    if _has_scores(judgement):
        yield Markup(
            "<em>Mean score</em>: of each answer the points of the criteria that it meets over all "
            "positive points; the mean over prompts, put to zero where it is below. The difference is of the "
            "scores as they are, with its interval over facts."
        )
    if judgement.max_new_tokens is not None:
        yield say(
            "An answer has at most {tokens} tokens: {source}.",
            tokens=num("/judge/max_new_tokens", "count"),
            source=num("/judge/limit_from"),
        )


def _trend(num: Numbers, at: str, found: WinTrend) -> Markup:
    arms = codes(found.arms)
    if found.p_value is None:
        return say("No trend along {arms} is tested: {why}.", arms=arms, why=num(f"{at}/absent"))
    said = "falls as ε falls" if found.p_value < SHOWN else "is not shown to fall with ε"
    rates = (num(join(f"{at}/rates", number), "percent_one") for number in range(len(found.rates)))
    unread = say(
        "; {count} comparisons without a verdict count against it", count=num(f"{at}/unscored", "count")
    )
    return say(
        "Along {arms} the win rate against {against} {said}: {rates}, each fact counted once (Page's test "
        "over {facts} facts, p {p}{unread}).",
        unread=unread if found.unscored else "",
        arms=arms,
        against=code(found.against or ""),
        said=said,
        rates=Markup(", ").join(rates),
        facts=num(f"{at}/facts", "count"),
        p=num(f"{at}/p_value", "p"),
    )


def _examples(num: Numbers, judgement: Judgement) -> Iterator[ExampleTable]:
    for at, example in placed("/judge/examples", judgement.examples):
        rows = []
        for place, answer in placed(f"{at}/answers", example.answers):
            withheld = answer.text is None
            text = say("<em>not shown: {why}</em>", why=num(f"{place}/withheld")) if withheld else None
            right = {True: "right", False: "not right", None: "not known"}[answer.right]
            rows.append(AnswerRow(answer.model, text or as_is(num(f"{place}/text")), right))
        yield ExampleTable(num(f"{at}/prompt"), num(f"{at}/reference"), tuple(rows))


def _no_examples(num: Numbers, judgement: Judgement) -> Markup | None:
    if judgement.no_examples is None:
        return None
    return say("No answers are shown here: {why}.", why=num("/judge/no_examples"))
