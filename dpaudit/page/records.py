"""A report as rows of figures (CSV), and as the test cases of a build server (JUnit's XML)."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from dpaudit.findings.answers import Answered, Question
from dpaudit.findings.finding import Finding
from dpaudit.findings.public import PublicReport
from dpaudit.findings.release import MAY, MUST_NOT, Released
from dpaudit.findings.report import Adapter, Report, Stage
from dpaudit.terminal import visible

COLUMNS = ("key", "arm", "recipe", "task", "figure", "value", "lower", "upper", "unit", "n")
SUBJECTS = ("arm", "recipe", "task")
WORDS = ("verdict", "word", "outcome", "state")  # texts that are findings themselves
COUNTS = ("n", "items", "records", "prompts", "pairs", "planted", "controls", "fields", "canaries", "members")
OWNERS = ("difference", "value", "win_rate", "rate", "without")  # whose limits are called lower and upper
UNITS = (  # the first that a name ends with
    ("bits_per_byte", "bits per byte"),
    *((name, "nats") for name in ("epsilon_pld", "epsilon_rdp", "epsilon", "epsilon_lower", "ceiling")),
    *((name, "nats") for name in ("log_odds", "logprob", "claim", "most_epsilon")),
    ("tokens_per_second", "tokens per second"),
    ("seconds", "s"),
    ("peak_memory_mb", "MB"),
    *((name, "share of 1") for name in ("rate", "accuracy", "auc", "tpr", "fpr", "power", "share")),
    *((name, "share of 1") for name in ("p_value", "p_holm", "confidence", "delta", "chance", "margin")),
)
RISKY = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula
Row = dict[str, Any]


# ---- rows of figures


def as_csv(report: Finding) -> str:
    """One row for each figure and each word of a verdict. Lists of numbers (curves, exposures) are left to
    report.json.
    """
    page = io.StringIO()
    written = csv.DictWriter(page, COLUMNS, restval="", lineterminator="\n")
    written.writeheader()
    for row in _rows(report.to_json(), "", {}):
        written.writerow({name: _cell(value) for name, value in row.items() if value is not None})
    return page.getvalue()


def _rows(tree: Any, at: str, subjects: Mapping[str, str]) -> Iterator[Row]:
    if isinstance(tree, list):
        for index, inner in enumerate(tree):
            if isinstance(inner, dict | list):
                yield from _rows(inner, f"{at}/{index}", subjects)
        return
    own = {name: tree[name] for name in SUBJECTS if isinstance(tree.get(name), str)}
    about = {**subjects, **own}
    limits = _limits(tree)
    taken = {name for pair in limits.values() for name in pair}
    for name, value in tree.items():
        place = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, dict | list):
            yield from _rows(value, place, about)
        elif name not in taken and _is_figure(name, value):
            lower, upper = map(tree.get, limits.get(name, ("", "")))
            row = {"key": place, **about, "figure": name, "value": value, "lower": lower, "upper": upper}
            is_word = isinstance(value, bool) or name in WORDS
            yield row if is_word else {**row, "unit": _unit(name), "n": _count(tree, name)}


def _unit(name: str) -> str | None:
    return next((unit for end, unit in UNITS if name.endswith(end)), None)


def _count(tree: Mapping[str, Any], name: str) -> Any:
    """Of how many a figure is; None where its object does not say."""
    return next((tree[key] for key in COUNTS if _is_number(tree.get(key)) and key != name), None)


def _limits(tree: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The figures of an object that have limits in it -> their names."""
    found = {}
    for name in tree:
        for base in (name, name.removesuffix("_rate")):
            if f"{base}_lower" in tree and f"{base}_upper" in tree:
                found[name] = (f"{base}_lower", f"{base}_upper")
    owner = next((name for name in OWNERS if name in tree and name not in found), None)
    if owner and "lower" in tree and "upper" in tree:
        found[owner] = ("lower", "upper")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_figure(name: str, value: Any) -> bool:
    return isinstance(value, int | float) or value in ("inf", "-inf") or (name in WORDS and value is not None)


def _cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula; a number as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if _is_number(value):
        return repr(value)
    text = visible(str(value))
    return f"'{text}" if text.startswith(RISKY) and value != "-inf" else text


# ---- test cases


def as_junit(report: Report) -> str:
    """Claims, release words, checks of training and stages as test cases. *No power*, *not established* and
    what was not looked at are errors: a build server shows what is skipped as good news.
    """
    return _junit(
        report.run.name,
        {
            "claims": _claims(report),
            "release": _releases(report.release, {arm.arm for arm in report.arms if arm.private}),
            "checks while training": _checks(report),
            "stages": _stages(report),
        },
    )


def public_junit(report: PublicReport) -> str:
    """The public edition's claims and release words as test cases."""
    private = {arm.arm for arm in report.adapters if arm.private}
    about = [(report.edition, "skipped", "; ".join(report.withheld), "")]
    cases = {
        "claims": _public_claims(report),
        "release": _releases(report.release, private),
        "edition": iter(about),
    }
    return _junit(report.run.name, cases)


def _public_claims(report: PublicReport) -> "Iterator[Case]":
    for answer in report.answers:
        title = f"{answer.arm}: ({answer.epsilon:g}, {answer.delta:g}) for one {answer.unit}"
        yield title, _outcome(answer.verdict), f"{answer.verdict}: {answer.reason}", ""
    there = {answer.arm for answer in report.answers}
    for arm in report.adapters:
        if arm.private and arm.arm not in there:
            yield f"{arm.arm}: its claim", "error", "no attack looked at it", ""


def _junit(run: str, suites_of: "Mapping[str, Iterator[Case]]") -> str:
    suites = ElementTree.Element("testsuites", name=visible(f"dpaudit {run}"))
    for name, cases in suites_of.items():
        _suite(suites, name, list(cases))
    ElementTree.indent(suites)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"
    )


Case = tuple[str, str, str, str]  # name, outcome (passed, failure, error, skipped), message, what is printed


def _suite(suites: ElementTree.Element, name: str, cases: list[Case]) -> None:
    suite = ElementTree.SubElement(suites, "testsuite", name=name, tests=str(len(cases)))
    for key, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(case[1] == outcome for case in cases)))
    for title, outcome, message, told in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"dpaudit.{name}", name=visible(title))
        if outcome != "passed":
            ElementTree.SubElement(case, outcome, message=visible(message))
        if told:
            ElementTree.SubElement(case, "system-out").text = visible(told)


def _claims(report: Report) -> Iterator[Case]:
    """Every claim that was answered; a private adapter whose claim nobody looked at; claims of the record
    without a verdict.
    """
    answers = report.together.answers if report.together else ()
    for answer in answers:
        claim = answer.claim
        title = f"{answer.arm}: ({claim.epsilon:g}, {claim.delta:g}) for one {claim.unit}, {claim.relation}"
        yield title, _outcome(answer.verdict), f"{answer.verdict}: {answer.reason}", _caught(answer)
    there = {answer.arm for answer in answers}
    for arm in report.arms:
        if arm.private and arm.arm not in there:
            yield f"{arm.arm}: its claim", "error", "no attack looked at it", ""
    known = {(answer.arm, answer.claim.epsilon, answer.claim.delta) for answer in answers}
    for made in report.claims:
        if (made.arm, made.claim, made.delta) not in known and made.verdict is None:
            title = f"{made.arm}: ({made.claim:g}, {made.delta:g}), {made.mark}"
            yield title, "error", "no verdict: nobody looked at it since it was made", ""


def _outcome(verdict: str) -> str:
    return {"refuted": "failure", "not refuted": "passed"}.get(verdict, "error")


def _caught(answer: Answered) -> str:
    """What would have been caught, question by question."""
    told = [
        f"from {question.side}: {question.violation} would be caught {_often(question)}"
        for question in answer.questions
    ]
    return "; ".join([answer.reason, *told])


def _often(question: Question) -> str:
    if question.power is None:
        return "nobody knows how often"
    able = "shown able" if question.is_shown_able else "not shown able"
    return f"{math.floor(question.power * 1000) / 10:g} % of the time ({able})"


def _releases(release: Iterable[Released], private: Collection[str]) -> Iterator[Case]:
    for released in release:
        outcome = "passed" if released.word == MAY else "failure" if released.word == MUST_NOT else "error"
        if released.arm not in private:
            outcome = "skipped"  # it is there to be compared with
        reasons = (released.why, *released.others, *released.cautions)
        told = f"{'; '.join(reasons)}. Next: {released.next_step}"
        yield f"{released.arm}: release", outcome, f"{released.word}: {released.why}", told


def _checks(report: Report) -> Iterator[Case]:
    """A check that fails leaves no adapter: those that are named here passed."""
    for arm in report.arms:
        yield from _guards(arm)
    outcomes = {"pass": "passed", "fail": "failure", "not observable": "skipped"}
    for found in report.inside:
        for check in found.conformance:
            yield f"{found.arm}: {check.name}", outcomes[check.outcome], check.detail, check.detail


def _guards(arm: Adapter) -> Iterator[Case]:
    for guard in arm.training.guards:
        yield f"{arm.arm}: {guard}", "passed", "", ""
    if not arm.training.guards:
        yield f"{arm.arm}: guards", "error", "no check is known of its training", ""


def _stages(report: Report) -> Iterator[Case]:
    for name, stage in vars(report.stages).items():
        yield f"stage {name}", *_stage(stage), ""
    for gone in report.gone:
        yield f"result {gone.file}", "error", f"it is gone: type {gone.command}", ""


def _stage(stage: Stage) -> tuple[str, str]:
    if stage.state == "done":
        return "passed", ""
    if stage.state in ("not planned", "not applicable"):
        return "skipped", stage.state
    lacking = f" ({', '.join(stage.absent)})" if stage.absent else ""
    return "error", f"{stage.state}{lacking}: type {stage.command}"
