"""What a judge's verdicts say of two models: the win rate, what is left of it without the judge's errors and
without the difference in length, and whether either side is right.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit.findings.counted import many
from dpaudit.findings.judgement import Accuracy, Adjusted, Correctness, Scores, WinRate, WinTrend
from dpaudit.findings.quality import BASE
from dpaudit.judging.fields import is_right
from dpaudit.judging.verdicts import EVEN
from dpaudit.stats import win_rates
from dpaudit.stats.length_control import CLUSTERS_LEAST, EqualLengthRate, equal_length_rate, goes_with_length
from dpaudit.stats.paired import ARMS_MOST, page_trend, paired_difference

Row = dict[str, Any]

FEWEST = 30  # distinct prompts, or facts, of a rate without a caution
CUT_MOST = 0.05  # of a model's answers
GAP_LEAST, GAP_SHARE_LEAST = 10, 0.05  # characters, and share of the mean length, of a difference that tells
UNSCORED_MOST = 0.05  # of a pair's comparisons
POINTS = {"arm": 1.0, "against": 0.0} | dict.fromkeys((*EVEN, "unscored"), 0.5)
CORRECTED = {
    "judge at chance": "on its controls the judge is not shown to do better than chance",
    "judged beyond its errors": "the judge errs otherwise here than on its controls",
}
EQUAL_LENGTH = {
    "too few clusters": f"fewer than {CLUSTERS_LEAST} distinct facts",
    "almost no wins": "almost no wins",
    "almost no losses": "almost no losses",
    "no difference in lengths": "the lengths differ alike everywhere",
    "one side almost always longer": "one side is longer almost everywhere",
    "lengths alone decide": "the lengths alone decide",
}


@dataclass(frozen=True)
class Answered:
    """What is known of prompts and answers beside the verdicts."""

    facts: Mapping[str, str] = field(default_factory=dict)  # prompt -> fact; one that is not here is its own
    # by prompt, or by id where rows have one
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # model -> prompt -> answer
    references: Mapping[str, str] = field(default_factory=dict)  # prompt -> right answer
    cut: Mapping[str, float] = field(default_factory=dict)  # model -> share of answers cut at their limit
    drug_names: Collection[str] = ()
    accuracy: Accuracy | None = None  # of the judge, from its passport

    def rights(self, model: str) -> dict[str, bool]:
        """Prompt -> whether the model's answer is right, where its reference tells."""
        told = {
            prompt: is_right(text, self.references[prompt], self.drug_names)
            for prompt, text in self.texts.get(model, {}).items()
            if prompt in self.references
        }
        return {prompt: right for prompt, right in told.items() if right is not None}


def pair_summary(
    judgements: Sequence[Row], arm: str, against: str, known: Answered | None = None, role: str = ""
) -> WinRate:
    """The win rate of `arm` (win 1, tie 0.5) over all comparisons with its 95 % interval, facts as clusters.

    Both right or both wrong is a tie. An unscored comparison counts 0.5 in the rate, as a loss in the lower
    limit and as a win in the upper one. All rates are None where nothing was judged.
    """
    known = known or Answered()
    rows = [row for row in judgements if (row["arm"], row["against"]) == (arm, against)]
    counts = Counter(row["winner"] for row in rows)
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    found = WinRate(
        arm=arm,
        against=against,
        role=role,
        prompts=len(prompts),
        facts=len({known.facts.get(prompt, prompt) for prompt in prompts}),
        win_rate=None,
        lower=None,
        upper=None,
        wins=counts["arm"],
        ties=sum(counts[even] for even in EVEN),
        losses=counts["against"],
        both_right=counts["both right"],
        both_wrong=counts["both wrong"],
        unscored=counts["unscored"],
        win_rate_worst=None,
        win_rate_best=None,
        corrected=Adjusted(absent="nothing was judged"),
        equal_length=Adjusted(absent="nothing was judged"),
        correct=_correctness(known, arm, against),
        arm_cut=known.cut.get(arm),
        against_cut=known.cut.get(against),
        scores=None,
        cautions=(),
    )
    if rows:
        found = replace(found, **_rates(rows, known))
    return replace(found, cautions=tuple(_cautions(found, rows, known)))


def _rates(rows: Sequence[Row], known: Answered) -> dict[str, Any]:
    facts = [known.facts.get(row["prompt"], row["prompt"]) for row in rows]
    worst, middle, best = (win_rates.win_rate(_outcomes(rows, unread), facts) for unread in (0.0, 0.5, 1.0))
    return {
        "win_rate": middle.estimate,
        "lower": worst.lower,
        "upper": best.upper,
        "win_rate_worst": worst.estimate,
        "win_rate_best": best.estimate,
        "corrected": _corrected(worst, middle, best, known.accuracy),
        "equal_length": _equal_length(rows, facts, known),
        "scores": _scores(rows, facts),
    }


def _scores(rows: Sequence[Row], facts: Sequence[str]) -> Scores | None:
    """Of both sides, where they have scores and any comparison could be read."""
    if not all("arm_score" in row for row in rows) or all(row["winner"] == "unscored" for row in rows):
        return None
    limits = {side: np.array([row[f"{side}_score"] for row in rows]) for side in ("arm", "against")}
    middle = {side: of.mean(axis=1) for side, of in limits.items()}  # shape (comparisons,)
    means = {side: float(of.mean()) for side, of in middle.items()}
    worst = paired_difference(limits["arm"][:, 0], limits["against"][:, 1], facts)
    best = paired_difference(limits["arm"][:, 1], limits["against"][:, 0], facts)
    return Scores(
        arm=min(1.0, max(0.0, means["arm"])),
        against=min(1.0, max(0.0, means["against"])),
        difference=means["arm"] - means["against"],
        lower=worst.lower if math.isfinite(worst.lower) else None,
        upper=best.upper if math.isfinite(best.upper) else None,
        clipped=tuple(rows[0][side] for side, mean in means.items() if mean < 0),
    )


def _corrected(
    worst: win_rates.WinRate, middle: win_rates.WinRate, best: win_rates.WinRate, accuracy: Accuracy | None
) -> Adjusted:
    if accuracy is None:
        return Adjusted(absent="the judge was tested on no fault")
    controls = win_rates.WinRate(**asdict(accuracy))
    return _bounded([win_rates.corrected(judged, controls) for judged in (worst, middle, best)], CORRECTED)


Found = win_rates.CorrectedRate | EqualLengthRate


def _bounded(found: Sequence[Found], words: Mapping[str, str]) -> Adjusted:
    """The rate with unscored comparisons as one half; its limits are those with all of them lost, and won. A
    limit that cannot be had rules nothing out.
    """
    worst, middle, best = found
    if middle.absent:
        return Adjusted(absent=words[middle.absent])
    lower = 0.0 if worst.lower is None else worst.lower
    return Adjusted(middle.estimate, lower, 1.0 if best.upper is None else best.upper)


def _equal_length(rows: Sequence[Row], facts: Sequence[str], known: Answered) -> Adjusted:
    if not all(row[side] in known.texts for row in rows[:1] for side in ("arm", "against")):
        return Adjusted(absent="the answers are not there")
    sizes = np.array(
        [[len(known.texts[row[side]][_item(row)]) for side in ("arm", "against")] for row in rows]
    )
    gaps = sizes[:, 0] - sizes[:, 1]
    size, gap = float(sizes.mean()), float(np.abs(gaps).mean())
    if gap < max(GAP_LEAST, GAP_SHARE_LEAST * size):
        return Adjusted(absent=f"too little difference in lengths: {gap:.0f} of {size:.0f} characters")
    if _is_right_by_length(rows, gaps, facts, known):
        return Adjusted(absent="right answers and wrong ones differ in length here")
    return _bounded(
        [equal_length_rate(_outcomes(rows, unread), gaps, facts) for unread in (0.0, 0.5, 1.0)], EQUAL_LENGTH
    )


def _is_right_by_length(
    rows: Sequence[Row], gaps: NDArray[np.int_], facts: Sequence[str], known: Answered
) -> bool:
    """Whether the side that is right is shown to be the longer one, or the shorter one."""
    mine, theirs = known.rights(rows[0]["arm"]), known.rights(rows[0]["against"])
    told = [place for place, row in enumerate(rows) if _item(row) in mine.keys() & theirs.keys()]
    items = [_item(rows[place]) for place in told]
    differences = [mine[item] - theirs[item] for item in items]
    return goes_with_length(differences, gaps[told], [facts[place] for place in told])


def _outcomes(rows: Sequence[Row], unread: float) -> list[float]:
    """The points of every comparison; `unread` are those of an unscored one."""
    return [(POINTS | {"unscored": unread})[row["winner"]] for row in rows]


def _item(row: Row) -> str:
    """The place of an answer: its prompt, or its own id where a prompt may have several."""
    return str(row.get("id", row["prompt"]))


def _correctness(known: Answered, arm: str, against: str) -> Correctness | None:
    mine, theirs = known.rights(arm), known.rights(against)
    both = mine.keys() & theirs.keys()
    if not both:
        return None
    return Correctness(
        known=len(both),
        arm_right=sum(mine[prompt] for prompt in both),
        against_right=sum(theirs[prompt] for prompt in both),
        neither=sum(not (mine[prompt] or theirs[prompt]) for prompt in both),
    )


def _cautions(found: WinRate, rows: Sequence[Row], known: Answered) -> list[str]:
    """What makes a rate say less than it seems to."""
    said = []
    if found.unscored > UNSCORED_MOST * len(rows):
        reasons = Counter(row.get("reason") or "" for row in rows if row["winner"] == "unscored")
        why = ", ".join(f"{reason or 'no reason told'} ({count})" for reason, count in reasons.most_common(3))
        said.append(f"no verdict in {found.unscored} of {many(len(rows), 'comparison')}: {why}")
    same, items = _equal_answers(rows, known), len({_item(row) for row in rows})
    if same and 2 * same >= items:
        said.append(f"the answers are the same in {same} of {many(items, 'prompt')}")
    if found.prompts < FEWEST:
        said.append(f"fewer than {FEWEST} distinct prompts")
    elif found.facts < FEWEST:
        said.append(f"the prompts are of {many(found.facts, 'fact')}, fewer than {FEWEST}")
    if found.correct and 2 * found.correct.neither >= found.correct.known:
        said.append(
            f"neither answer is right in {found.correct.neither} of {many(found.correct.known, 'prompt')}"
        )
    for model, share in ((found.arm, found.arm_cut), (found.against, found.against_cut)):
        if share is not None and share > CUT_MOST:
            said.append(f"{share:.0%} of the answers of {model} were cut at their limit")
    if found.scores:
        said += [f"the mean score of {side} is below 0 and stands as 0" for side in found.scores.clipped]
        if max(found.scores.arm, found.scores.against) == 0:
            said.append(
                "no answer of either side earned a point: the judge or the criteria tell nothing here"
            )
    if _is_another(found):
        said.append(
            "at equal lengths the rate is another one: the judge goes by length, or better answers differ in "
            "length"
        )
    return said


def _is_another(found: WinRate) -> bool:
    """Whether the rate at equal lengths names the other side, or its interval does not hold the raw rate."""
    raw, equal = found.win_rate, found.equal_length
    if raw is None or equal.rate is None or equal.lower is None or equal.upper is None:
        return False
    return (raw - 0.5) * (equal.rate - 0.5) < 0 or not equal.lower <= raw <= equal.upper


def _equal_answers(rows: Sequence[Row], known: Answered) -> int:
    """In how many prompts both sides wrote the same; 0 where the answers are not there."""
    items = {_item(row): row for row in rows}
    return sum(
        known.texts[row["arm"]][item] == known.texts[row["against"]][item]
        for item, row in items.items()
        if item in known.texts.get(row["arm"], {}) and item in known.texts.get(row["against"], {})
    )


def trend(judgements: Sequence[Row], ladder: Sequence[str], known: Answered) -> WinTrend:
    """Page's test over arms of one ladder, largest epsilon first, by their outcomes against one other model:
    the base, else the first of the ladder, in which case it is of the others.

    Unscored comparisons count against the trend: as lost by arms before the middle of the ladder and as won
    by those behind it; in the middle as whichever shows least.
    """
    arms, against = tuple(ladder), BASE
    judged = {(row["arm"], row["against"]) for row in judgements}
    if not all((arm, BASE) in judged for arm in ladder):
        arms, against = tuple(ladder[1:]), ladder[0]
    if not all((arm, against) in judged for arm in arms):
        return WinTrend(tuple(ladder), absent="the adapters are not all compared with one other model")
    if not 3 <= len(arms) <= ARMS_MOST:
        return WinTrend(arms, against, absent=f"it takes from 3 to {ARMS_MOST} adapters")
    rows = [row for row in judgements if row["against"] == against and row["arm"] in arms]
    table = _table(rows, arms, dict.fromkeys(arms, 0.5), known)
    if len(table) < 2:
        return WinTrend(arms, against, absent="it takes at least two facts")
    p_value = max(
        page_trend(_table(rows, arms, _against_trend(arms, middle), known), "falling")
        for middle in (0.0, 0.5, 1.0)
    )
    rates = tuple(float(rate) for rate in table.mean(axis=0))
    unscored = sum(row["winner"] == "unscored" for row in rows)
    return WinTrend(arms, against, rates, len(table), p_value, unscored=unscored)


def _table(
    rows: Sequence[Row], arms: Sequence[str], unread: Mapping[str, float], known: Answered
) -> NDArray[np.float64]:
    """Mean points of every fact and arm, shape (facts, arms); `unread` are an arm's for an unscored
    comparison.
    """
    outcomes: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        fact = known.facts.get(row["prompt"], row["prompt"])
        points = (POINTS | {"unscored": unread[row["arm"]]})[row["winner"]]
        outcomes.setdefault(fact, {}).setdefault(row["arm"], []).append(points)
    return np.array([[np.mean(of[arm]) for arm in arms] for of in outcomes.values()])


def _against_trend(arms: Sequence[str], middle: float) -> dict[str, float]:
    """What an unscored comparison of each arm counts where it is to speak against a falling rate."""
    centre = (len(arms) - 1) / 2
    return {arm: middle if at == centre else float(at > centre) for at, arm in enumerate(arms)}
