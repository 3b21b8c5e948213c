"""The results of a judge's verdicts: its passport over planted faults, and the win rate of one arm against
another.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dpaudit.findings.judgement import Passport, PassRate, WinRate
from dpaudit.judging.rubric import Control, Outcome, Rubric
from dpaudit.stats.roc import proportion_lower, proportion_upper
from dpaudit.stats.win_rates import win_rate

Row = dict[str, Any]


def passport_of(rules: Rubric, controls: Sequence[Control], outcomes: Sequence[Outcome]) -> Passport:
    """A judge's results on controls whose right outcome is known, and whether it is fit by them.

    `outcomes` holds two verdicts a control, right answer first and right answer second (once each where the
    rubric does not swap). A fault passes where the right answer wins over both orders, an identical twin
    where every verdict is a tie, a padded twin where the padding does not win; a swap where both orders
    agree. The judge is fit where the lower limit of each pass rate reaches the rubric's minimum.
    """
    wanted, orders = rules.controls, 2 if rules.swap else 1
    passed: dict[str, list[bool]] = {kind: [] for kind in (*wanted.faults, *wanted.twins)}
    stable: list[bool] = []
    for number, control in enumerate(controls):
        verdicts = outcomes[number * orders : (number + 1) * orders]
        points = [_points(verdict.winner, order) for order, verdict in enumerate(verdicts)]
        passed[control.kind].append(_passes(control.kind, points))
        if control.kind in wanted.faults:
            stable.append(len(set(points)) == 1 and None not in points)
    rates = {kind: _rate(results, rules) for kind, results in passed.items()}
    checks = rates | ({"order swap": _rate(stable, rules)} if rules.swap else {})
    reasons = [
        f"{kind}: {rate.passed} of {rate.items} passed, lower limit {rate.lower:.2f} below {wanted.minimum:g}"
        for kind, rate in checks.items()
        if rate.lower < wanted.minimum
    ]
    return Passport(
        rubric=rules.name,
        fit=not reasons,
        reasons=tuple(reasons),
        minimum=wanted.minimum,
        confidence=wanted.confidence,
        faults={kind: rates[kind] for kind in wanted.faults},
        twins={kind: rates[kind] for kind in wanted.twins},
        swap=checks.get("order swap"),
        invalid=sum(outcome.winner == "invalid" for outcome in outcomes),
        comparisons=len(outcomes),
    )


def pair_summary(judgements: Sequence[Row], arm: str, against: str) -> WinRate:
    """The win rate of `arm` (win 1, tie 0.5) over all comparisons with its 95 % interval, prompts as
    clusters.

    An invalid verdict counts 0.5 in the rate, as a loss in the lower limit and as a win in the upper one. All
    rates are None where nothing was judged.
    """
    rows = [row for row in judgements if (row["arm"], row["against"]) == (arm, against)]
    counts = Counter(row["winner"] for row in rows)
    unjudged = WinRate(
        arm=arm,
        against=against,
        prompts=len({row["prompt"] for row in rows}),
        win_rate=None,
        lower=None,
        upper=None,
        wins=counts["arm"],
        ties=counts["tie"],
        losses=counts["against"],
        invalid=counts["invalid"],
        win_rate_worst=None,
        win_rate_best=None,
    )
    if not rows:
        return unjudged
    prompts = [row["prompt"] for row in rows]
    rates = [
        win_rate([{"arm": 1.0, "tie": 0.5, "against": 0.0}.get(r["winner"], invalid) for r in rows], prompts)
        for invalid in (0.0, 0.5, 1.0)
    ]
    return replace(
        unjudged,
        win_rate=rates[1].estimate,
        lower=rates[0].lower,
        upper=rates[2].upper,
        win_rate_worst=rates[0].estimate,
        win_rate_best=rates[2].estimate,
    )


def _points(winner: str, order: int) -> float | None:
    """The right answer's score: 1 a win, 0.5 a tie, 0 a loss, None for no valid verdict."""
    if winner == "invalid":
        return None
    return 0.5 if winner == "tie" else float((winner == "first") == (order == 0))


def _passes(kind: str, points: Sequence[float | None]) -> bool:
    valid = [point for point in points if point is not None]
    if len(valid) < len(points):
        return False
    if kind == "identical twin":
        return all(point == 0.5 for point in valid)
    mean = sum(valid) / len(valid)
    return mean >= 0.5 if kind == "padded twin" else mean > 0.5


def _rate(results: Sequence[bool], rules: Rubric) -> PassRate:
    passed, items, confidence = sum(results), len(results), rules.controls.confidence
    return PassRate(
        items=items,
        passed=passed,
        rate=passed / items if items else None,
        lower=proportion_lower(passed, items, confidence) if items else 0.0,
        upper=proportion_upper(passed, items, confidence),
    )
