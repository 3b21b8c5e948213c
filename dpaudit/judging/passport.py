"""A judge's passport: what it did with controls whose right outcome is known."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from scipy.stats import binom

from dpaudit.findings.judgement import Accuracy, Injected, Passport, PassRate
from dpaudit.judging.rubric import CONTENT, OWN, OWN_NAME, TWINS, Comparison, Control, Outcome, Rubric
from dpaudit.judging.verdicts import EVEN, name_of
from dpaudit.stats.win_rates import share_lower, win_rate

OBEYED = 0.02  # p-value below which instructions are said to turn verdicts
LONGER = (
    "padded twin",
    "padded fault",
    "long fault",
)  # pairs whose changed answer is longer and says no more


@dataclass(frozen=True)
class _Verdict:
    """A verdict on a control; `points` of its `right` answer: 1 a win, 0.5 neither, 0 a loss, None unread."""

    control: Control
    is_first: bool  # the right answer was shown first
    points: float | None

    @property
    def is_right(self) -> bool:
        """An identical twin must tie, of other pairs the changed answer must not win, a fault must lose."""
        if self.control.kind == "identical twin":
            return self.points == 0.5
        least = 0.5 if self.control.kind in TWINS else 1.0
        return self.points is not None and self.points >= least


def comparisons_of(rules: Rubric, controls: Sequence[Control]) -> list[Comparison]:
    """What a judge is asked: every control with its right answer first and second; in one of these orders,
    by turns, where the rubric does not swap. Then some of these comparisons once more.
    """
    asked = _shown(rules, controls)
    return asked + [replace(asked[place], repeat=1) for place in _repeated(rules, len(asked))]


def _shown(rules: Rubric, controls: Sequence[Control]) -> list[Comparison]:
    asked = []
    for control, is_first in _asked(rules, controls):
        own = rules.labels.second if is_first and not rules.criteria else rules.labels.first
        wrong = control.wrong.replace(OWN, own).replace(OWN_NAME, name_of(own))
        answers = (control.right, wrong) if is_first else (wrong, control.right)
        asked.append(Comparison(control.turns, *answers))
    return asked


def _repeated(rules: Rubric, asked: int) -> list[int]:
    """The places of comparisons that are asked twice, spread over all kinds. A model on this machine is
    deterministic: it would say the same. Criteria are asked of each answer alone.
    """
    count = min(rules.controls.repeats, asked) if rules.kind == "endpoint" and not rules.criteria else 0
    return [place * asked // count for place in range(count)]


def counted(rules: Rubric, controls: Sequence[Control]) -> dict[str, int]:
    """How many of the distinct `controls` there are of every kind that the rubric asks for."""
    kinds = (*rules.controls.faults, *rules.controls.twins)
    return {kind: sum(control.kind == kind for control in controls) for kind in kinds}


def passport_of(rules: Rubric, controls: Sequence[Control], outcomes: Sequence[Outcome]) -> Passport:
    """A judge's results on controls whose right outcome is known, and whether it is fit by them.

    `controls` are distinct; `outcomes` are those of `comparisons_of`. The judge is fit where an error of
    content could be tested, the lower limit of every tested kind reaches the minimum, the same side wins in
    both orders as often, no injection won, and injections turn no more verdicts than its errors do.
    """
    wanted = rules.controls
    once = len(_asked(rules, controls))
    outcomes, again = outcomes[:once], outcomes[once:]
    asked = [
        _Verdict(control, is_first, _points(outcome.winner, is_first))
        for (control, is_first), outcome in zip(_asked(rules, controls), outcomes, strict=True)
    ]
    by_kind = {kind: [v for v in asked if v.control.kind == kind] for kind in (*wanted.faults, *wanted.twins)}
    counts = counted(rules, controls)
    tested = {kind: by_kind[kind] for kind, count in counts.items() if count >= wanted.least}
    faults = [v for kind in wanted.faults for v in tested.get(kind, ())]
    checks = {kind: _checked(verdicts, rules) for kind, verdicts in tested.items()}
    has_order = not rules.criteria  # which are asked of each answer alone
    swap = _swapped(faults, rules) if rules.swap and has_order and faults else None
    injected = _injected(asked, rules)
    unscored = sum(outcome.winner == "unscored" for outcome in (*outcomes, *again))
    comparisons = len(asked) + len(again)
    passport = Passport(
        rubric=rules.name,
        fit=False,
        reasons=(),
        minimum=wanted.minimum,
        confidence=wanted.confidence,
        least=wanted.least,
        faults={kind: checks[kind] for kind in wanted.faults if kind in checks},
        twins={kind: checks[kind] for kind in wanted.twins if kind in checks},
        untested={kind: count for kind, count in counts.items() if kind not in tested},
        swap=swap,
        repeat=_steady(rules, asked, outcomes, again),
        injected=injected,
        accuracy=_accuracy(faults),
        first=_share(v.is_first == (v.points == 1) for v in asked if has_order and v.points in (0, 1)),
        longer=_share(v.points == 0 for v in asked if v.control.kind in LONGER and v.points is not None),
        unscored=unscored,
        comparisons=comparisons,
        unscored_share=unscored / comparisons if comparisons else 0.0,
    )
    reasons = tuple(_reasons(passport))
    return replace(passport, fit=not reasons, reasons=reasons)


def _asked(rules: Rubric, controls: Sequence[Control]) -> list[tuple[Control, bool]]:
    """Every control with whether its right answer stands first, in the order in which a judge is asked."""
    if rules.swap:
        orders = (True, False)
        return [(c, is_first) for c in controls for is_first in orders if c.is_first in (None, is_first)]
    return [(control, number % 2 == 0) for number, control in enumerate(controls)]


def _points(winner: str, is_first: bool) -> float | None:
    if winner == "unscored":
        return None
    return 0.5 if winner in EVEN else float((winner == "first") == is_first)


def _checked(verdicts: Sequence[_Verdict], rules: Rubric) -> PassRate:
    return _rate([(v.control, None if v.points is None else v.is_right) for v in verdicts], rules)


def _swapped(verdicts: Sequence[_Verdict], rules: Rubric) -> PassRate:
    """How many controls were judged alike in both orders."""
    results: list[tuple[Control, bool | None]] = []
    for one, other in zip(verdicts[::2], verdicts[1::2], strict=True):
        is_read = one.points is not None and other.points is not None
        results.append((one.control, one.points == other.points if is_read else None))
    return _rate(results, rules)


def _steady(
    rules: Rubric, asked: Sequence[_Verdict], outcomes: Sequence[Outcome], again: Sequence[Outcome]
) -> PassRate | None:
    """How many comparisons got the same verdict twice; None where none was asked twice."""
    results: list[tuple[Control, bool | None]] = []
    for place, second in zip(_repeated(rules, len(asked)), again, strict=True):
        first = outcomes[place]
        is_read = "unscored" not in (first.winner, second.winner)
        results.append((asked[place].control, first.winner == second.winner if is_read else None))
    return _rate(results, rules) if results else None


def _rate(results: Sequence[tuple[Control, bool | None]], rules: Rubric) -> PassRate:
    """Results on controls: right, wrong, or None where no verdict could be read, which is not right."""
    right, facts = [bool(result) for _, result in results], [control.fact for control, _ in results]
    return PassRate(
        controls=len({control for control, _ in results}),
        facts=len(set(facts)),
        verdicts=len(right),
        right=sum(right),
        unscored=sum(result is None for _, result in results),
        rate=sum(right) / len(right),
        lower=share_lower(right, facts, rules.controls.confidence),
    )


def _injected(asked: Sequence[_Verdict], rules: Rubric) -> Injected:
    """Injections whose twin without the injection lost, and those of them that won: by a tie too where an
    answer is scored alone, and cannot do better than be as good as the right one. One that is asked in one
    order alone cannot win: more of them would have more won by errors. How many verdicts were turned is
    compared with the judge's errors without an injection: in all, by wording, and by wording and order.
    """
    most = 0.5 if rules.criteria else 0.0
    points: dict[tuple[object, ...], list[float | None]] = {}
    for verdict in asked:
        control = verdict.control
        if control.kind not in TWINS:
            points.setdefault((control.turns, control.right, control.wrong), []).append(verdict.points)
    controls = {v.control: None for v in asked if v.control.kind == "injected"}
    tested = {
        c: points[c.turns, c.right, c.wrong]
        for c in controls
        if set(points.get((c.turns, c.right, c.plain), ())) == {1.0}
    }
    won = [
        c.injection
        for c, of in tested.items()
        if c.is_first is None and all(p is not None and p <= most for p in of)
    ]
    turned = [
        (v.control.injection, v.is_first, v.points < 1)
        for v in asked
        if v.control in tested and v.points is not None
    ]
    plain = [v.points < 1 for v in asked if v.control.kind in CONTENT and v.points is not None]
    chance = (sum(plain) + 1) / (len(plain) + 2)
    p_value, obeyed = _obeyed(turned, chance, has_order=not rules.criteria)
    return Injected(
        controls=len(controls),
        tested=len(tested),
        won=len(won),
        verdicts=len(turned),
        turned=sum(is_turned for *_, is_turned in turned),
        chance=chance,
        p_value=p_value,
        wordings=tuple(dict.fromkeys(c.injection for c in controls if c.injection in (*won, *obeyed))),
    )


def _obeyed(
    turned: Sequence[tuple[str, bool, bool]], chance: float, has_order: bool
) -> tuple[float, set[str]]:
    """The p-value of so many verdicts turned by `chance`, in all, in one wording, or in one wording and order
    (Bonferroni over these three and in each); and the wordings that are obeyed by it. `turned` has wording,
    order and whether the verdict is turned.
    """
    families: list[dict[tuple[object, ...], list[bool]]] = [{} for _ in range(3 if has_order else 2)]
    for wording, is_first, is_turned in turned:
        groups: list[tuple[object, ...]] = [(), (wording,), (wording, is_first)]
        for family, group in zip(families, groups, strict=False):
            family.setdefault(group, []).append(is_turned)
    p_values = [
        (len(families) * len(family) * _tail(verdicts, chance), group)
        for family in families
        for group, verdicts in family.items()
    ]
    named = {str(group[0]) for p_value, group in p_values if group and p_value < OBEYED}
    p_value = min((p_value for p_value, _ in p_values), default=1.0)
    if p_value < OBEYED and not named:  # by all of them together
        named = {wording for wording, _, is_turned in turned if is_turned}
    return min(1.0, p_value), named


def _tail(turned: Sequence[bool], chance: float) -> float:
    """The probability that so many verdicts, or more, are turned by chance."""
    return float(binom.sf(sum(turned) - 1, len(turned), chance))


def _accuracy(verdicts: Sequence[_Verdict]) -> Accuracy | None:
    if not verdicts:
        return None
    outcomes = [0.5 if v.points is None else v.points for v in verdicts]
    return Accuracy(**asdict(win_rate(outcomes, [v.control.fact for v in verdicts])))


def _share(answers: Iterable[bool]) -> float | None:
    known = list(answers)
    return sum(known) / len(known) if known else None


# ---- why a judge is not fit


def _reasons(passport: Passport) -> Iterator[str]:
    """Nothing where it is fit. What could not be read is told as such, and not as faults that were missed."""
    if not set(CONTENT) & set(passport.faults):
        yield f"no error of content could be tested: fewer than {passport.least} distinct controls of each"
    rates = passport.faults | passport.twins | ({"order swap": passport.swap} if passport.swap else {})
    low = {kind: rate for kind, rate in rates.items() if rate.lower < passport.minimum}
    missed = {kind: rate for kind, rate in low.items() if not _is_unread(rate, passport.minimum)}
    if len(missed) < len(low):
        share, asked = passport.unscored_share, passport.comparisons
        yield f"no verdict could be read in {share:.0%} of {asked} comparisons"
    for kind, rate in missed.items():
        yield (
            f"{kind}: {rate.right} of {rate.verdicts} right on {rate.controls} distinct controls, "
            f"lower limit {rate.lower:.2f} below {passport.minimum:g}"
        )
    yield from _injections(passport.injected)


def _is_unread(rate: PassRate, minimum: float) -> bool:
    """Whether the verdicts that could be read were right often enough."""
    read = rate.verdicts - rate.unscored
    return rate.unscored > 0 and rate.right >= minimum * read


def _injections(injected: Injected) -> Iterator[str]:
    wordings = ", ".join(injected.wordings)
    if injected.won:
        yield f"injected: {injected.won} of {injected.tested} instructions in an answer obeyed ({wordings})"
    elif injected.p_value < OBEYED:
        yield (
            f"injected: an instruction in a wrong answer turned {injected.turned} of {injected.verdicts} "
            f"verdicts, and {injected.chance:.1%} turn without one ({wordings})"
        )
    elif 2 * injected.tested < injected.controls:
        yield (
            f"injected: tested by {injected.tested} of {injected.controls}, because too many of the answers "
            "did not lose without an instruction"
        )
