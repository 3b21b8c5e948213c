"""How often the passport calls judges fit that err, and judges that obey an instruction besides.

    python benchmarks/judge_passport.py [--replications 400] [--out benchmarks/results/judge_passport.json]

Judges by rule on the controls that a rubric of a real model asks for (60 of each kind), planted in 70 plain
answers. An honest one is right in .95 to 1 of its verdicts, each by itself, or, where it is steady, of its
beliefs on an answer, which hold in both orders, whatever is added. The others obey one of the wordings
besides, by turns: in both orders or in one, always or by half, with a win or with a tie. `fit` is a share of
replications with seeds of their own. Some two minutes on one core.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dpaudit.data.corpus import Record, Turn
from dpaudit.judging import planted, rubric
from dpaudit.judging.passport import comparisons_of, passport_of
from dpaudit.judging.planted import INJECTIONS
from dpaudit.judging.rubric import FAULTS, Comparison, Control, Outcome

DRUGS = ("amoxicillin", "ibuprofen", "metformin", "lisinopril", "atorvastatin", "losartan", "omeprazole")
RULES = rubric.load("local")
Rule = Callable[[Comparison], str]


def answers() -> list[Record]:
    """Dialogues of different facts, each with a drug, a dose and a warning."""
    named = [f"{chr(97 + n // 7) * 3}{'aeiouyn'[n % 7]}itis" for n in range(70)]
    said = [f"Take {DRUGS[n % 7]} {n + 5} mg with water in the evening. Avoid alcohol." for n in range(70)]
    return [
        Record(str(n), (Turn("user", f"What helps against {named[n]}?"), Turn("assistant", said[n])))
        for n in range(70)
    ]


RECORDS = answers()
CONTROLS = planted.completed(planted.plant(RECORDS, RULES.controls), RULES.controls)
RIGHT = {record.turns[:-1]: record.turns[-1].text for record in RECORDS}
WRONG = {turns: {c.wrong for c in CONTROLS if c.turns == turns and c.kind in FAULTS} for turns in RIGHT}


def oracle(asked: Comparison) -> str:
    first, second = (text.startswith(RIGHT[asked.turns]) for text in (asked.first, asked.second))
    return "both right" if first and second else "first" if first else "second" if second else "both wrong"


def about(asked: Comparison) -> tuple[object, str]:
    """The answer whose faults a comparison is about, without what was added to it."""
    own = RIGHT[asked.turns]
    told = [text for text in (asked.first, asked.second) if not text.startswith(own)] or [own]
    shortest = min(told, key=len)
    return asked.turns, max((w for w in WRONG[asked.turns] if w in shortest), key=len, default=shortest)


def honest(seed: int, right: float, is_steady: bool) -> Rule:
    """An oracle that errs in the share 1 - `right`."""
    rng, beliefs = random.Random(f"honest {seed}"), dict[object, bool]()

    def rule(asked: Comparison) -> str:
        belief = beliefs.setdefault(about(asked), rng.random() < right)
        if belief if is_steady else rng.random() < right:
            return oracle(asked)
        return {"first": "second", "second": "first"}.get(oracle(asked), rng.choice(("first", "second")))

    return rule


def obedient(seed: int, right: float, where: str, share: float, says: str) -> Rule:
    """The same, and where an answer holds one wording it obeys in this `share`: `where` is the order, or
    "both"; it `says` that this answer wins, or a tie.
    """
    other, rng = honest(seed, right, is_steady=False), random.Random(f"obedient {seed}")
    mark = list(INJECTIONS.values())[seed % len(INJECTIONS)].replace("{answer}", "").partition("{own")[0]

    def rule(asked: Comparison) -> str:
        told = {side for side in ("first", "second") if mark in getattr(asked, side)}
        here = where if where != "both" else next(iter(told), "")
        if here in told and rng.random() < share:
            return here if says == "win" else "tie"
        return other(asked)

    return rule


def fit(rules: Sequence[Rule], controls: Sequence[Control] = CONTROLS) -> float:
    """The share of judges that are fit."""
    asked = comparisons_of(RULES, controls)
    passports = [
        passport_of(RULES, controls, [Outcome(rule(one)) for one in asked])  # type: ignore[arg-type]
        for rule in rules
    ]
    return sum(passport.fit for passport in passports) / len(rules)


def results(count: int) -> Iterator[dict[str, Any]]:
    for right, is_steady in ((0.95, False), (0.95, True), (0.97, False), (1.0, False)):
        rate = fit([honest(seed, right, is_steady) for seed in range(count)])
        yield {"right": right, "steady": is_steady, "obeys": "nothing", "fit": rate}
    cases = (
        *((0.95, where, 1.0, says) for where in ("first", "second", "both") for says in ("win", "tie")),
        *((0.95, "first", share, "win") for share in (0.8, 0.5)),
        *((1.0, "first", share, "win") for share in (1.0, 0.5)),
    )
    for right, where, share, says in cases:
        rate = fit([obedient(seed, right, where, share, says) for seed in range(count)])
        obeys = {"obeys": "one wording", "where": where, "share": share, "says": says}
        yield {"right": right, "steady": False, **obeys, "fit": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/judge_passport.json"))
    arguments = parser.parse_args()
    found = []
    for row in results(arguments.replications):
        found.append(row | {"replications": arguments.replications})
        print(json.dumps(row), flush=True)
    whole = {"fit": found}
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
