"""The judge beside people: verdicts on the same answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpaudit.data import human_verdicts
from dpaudit.data.human_verdicts import HumanVerdict
from dpaudit.errors import UsageError
from dpaudit.findings.human import FEW, HumanAgreement
from dpaudit.findings.judgement import Judgement
from dpaudit.judging.comparing import Row
from dpaudit.judging.verdicts import EVEN
from dpaudit.stages import judge, report
from dpaudit.storage.exclusive import alone
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import read_sealed_lines

FILE = report.PEOPLE
SIDES = ("arm", "against", "tie")
SAID = {"arm": "arm", "answers": "arm", "against": "against"} | dict.fromkeys(EVEN, "tie")

Told = Mapping[
    tuple[str, str, str], tuple[str | None, str]
]  # arm, against, id -> verdict (None: none), prompt


def of_run(run_dir: RunDir, file: Path) -> HumanAgreement:
    """How far a run's kept judgements agree with a table of people's verdicts. Nothing is written.

    Raises UsageError where nothing was judged, and for a row that fits no judgement.
    """
    found = Judgement.read(run_dir, judge.SUMMARY)
    rows = read_sealed_lines(run_dir, judge.JUDGEMENTS)
    return agreement(found.rubric, rows, file, str(run_dir.file(judge.JUDGEMENTS)))


@alone("judge")
def write(run_dir: RunDir, found: HumanAgreement) -> None:
    """Keeps it in the run."""
    found.write(run_dir, FILE, [judge.SUMMARY])


def agreement(rubric: str, rows: Sequence[Row], file: Path, judged_in: str) -> HumanAgreement:
    """How far the judge's verdicts in `rows` agree with those in a table."""
    from dpaudit.stats import kappa

    told = _told(rows)
    if not told:
        raise UsageError(
            judged_in, "judgements of a fit judge", "none", "a judge that is not fit says nothing"
        )
    people, machine, prompts, unscored = [], [], [], 0
    for verdict in human_verdicts.read(file):
        key, said = _placed(verdict, told, judged_in)
        judged, prompt = told[key]
        if judged is None:
            unscored += 1
            continue
        people.append(said)
        machine.append(judged)
        prompts.append(prompt)
    if not people:
        raise UsageError(judged_in, "a verdict of the judge beside one of people", "none", "judge again")
    found = kappa.cohen(people, machine, prompts)
    both = list(zip(people, machine, strict=True))
    return HumanAgreement(
        rubric=rubric,
        kappa=found.kappa,
        lower=found.lower,
        upper=found.upper,
        agreement=found.agreement,
        agreement_lower=found.agreement_lower,
        agreement_upper=found.agreement_upper,
        verdicts=found.items,
        prompts=found.clusters,
        judged=len({prompt for _, prompt in told.values()}),
        unscored=unscored,
        is_few=found.clusters < FEW,
        counts={one: {other: both.count((one, other)) for other in SIDES} for one in SIDES},
    )


def _told(rows: Sequence[Row]) -> Told:
    """What the judge says of each pair of answers over both orders."""
    by_pair: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = str(row["arm"]), str(row["against"]), str(row.get("id", row["prompt"]))
        by_pair.setdefault(key, []).append(row)
    return {key: (_verdict([row["winner"] for row in of]), of[0]["prompt"]) for key, of in by_pair.items()}


def _verdict(winners: Sequence[str]) -> str | None:
    if "unscored" in winners:
        return None
    said = {SAID[winner] for winner in winners}
    return said.pop() if len(said) == 1 else "tie"


def _placed(verdict: HumanVerdict, told: Told, judged_in: str) -> tuple[tuple[str, str, str], str]:
    """The judgement that a person's verdict is on, and the verdict in its terms. Raises UsageError where
    there is none.
    """
    pairs = list(dict.fromkeys((arm, against) for arm, against, _ in told))
    arm, against = verdict.arm, verdict.against
    if arm is None and against is None and len(pairs) == 1:
        arm, against = pairs[0]
    is_turned = (against, arm) in pairs and (arm, against) not in pairs
    pair = (against, arm) if is_turned else (arm, against)
    if arm is None or against is None or ((arm, against) not in pairs and not is_turned):
        known = "; ".join(f"{one} against {other}" for one, other in pairs)
        got = "no two sides" if arm is None or against is None else "two sides that were not compared"
        raise UsageError(f"{verdict.where}: arm", f"one of: {known}", got, human_verdicts.DOCS)
    key = (str(pair[0]), str(pair[1]), verdict.prompt)
    if key not in told:
        raise UsageError(
            f"{verdict.where}: prompt", f"an id of {judged_in}", "another text", human_verdicts.DOCS
        )
    names = {arm: "arm", against: "against"}
    said = names.get(verdict.winner) or SAID.get(verdict.winner.casefold())
    if said is None:
        raise UsageError(
            f"{verdict.where}: winner", f"{arm}, {against} or tie", "another word", human_verdicts.DOCS
        )
    if is_turned:
        said = {"arm": "against", "against": "arm"}.get(said, said)
    return key, said
