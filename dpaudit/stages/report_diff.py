"""`report diff`: two runs side by side. Each figure stands with its interval, or with why the two cannot be
compared.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from dpaudit.findings.extraction import Extraction
from dpaudit.findings.judgement import WinRate
from dpaudit.findings.membership import Membership
from dpaudit.findings.quality import TaskFigures, TasksAsked
from dpaudit.findings.report import Report
from dpaudit.stages import report
from dpaudit.stages.benchmarks import TASKS
from dpaudit.stages.integrity import siblings
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.loading import finite
from dpaudit.suite.plan import Plan

T = TypeVar("T")
SAME, OTHER = "the same", "another"
APART, OVERLAP = "the intervals lie apart", "the intervals overlap: no difference is shown"
BOUNDS = "two lower bounds: which adapter gives away more is not told"
ABSENT = "not comparable, because only one run has it"


@dataclass(frozen=True)
class Value:
    """A figure of one run, or a word; limits where it has some."""

    value: float | str | None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Row:
    """One thing in both runs; None where a run does not have it."""

    what: str
    of: str
    first: Value | None
    second: Value | None
    said: str


@dataclass(frozen=True)
class Side:
    """One of the two runs, as its page would be now."""

    run_dir: RunDir
    plan: Plan
    report: Report
    tasks: TasksAsked | None


def side(run_dir: RunDir, plan: Plan) -> Side:
    """Raises UsageError as `report html` does."""
    asked = TasksAsked.read(run_dir, TASKS) if run_dir.file(TASKS).is_file() else None
    return Side(run_dir, plan, report.present(run_dir, plan), asked)


def settings(first: Side, second: Side) -> list[dict[str, Any]]:
    """The settings that differ: dotted key, and the value in either run."""
    mine, theirs = (_flat({**finite(asdict(one.plan))}) for one in (first, second))
    return [
        {"setting": key, "first": mine.get(key), "second": theirs.get(key)}
        for key in dict.fromkeys([*mine, *theirs])
        if mine.get(key) != theirs.get(key)
    ]


def _flat(tree: Any, at: str = "") -> dict[str, Any]:
    if isinstance(tree, dict) and tree:
        joined = {f"{at}.{key}" if at else str(key): inner for key, inner in tree.items()}
        return {path: value for key, inner in joined.items() for path, value in _flat(inner, key).items()}
    return {at: tree}


def figures(first: Side, second: Side) -> list[Row]:
    """Words and figures of both runs, adapter by adapter."""
    return [
        *_words(first, second),
        *_spent(first, second),
        *_bounds(first, second),
        *_areas(first, second),
        *_secrets(first, second),
        *_accuracies(first, second),
        *_bits(first, second),
        *_win_rates(first, second),
    ]


# ---- words


def _words(first: Side, second: Side) -> Iterator[Row]:
    def words(one: Side) -> dict[str, str]:
        return {released.arm: released.word for released in one.report.release}

    for arm, (mine, theirs) in _both(words(first), words(second)).items():
        yield _row("release", arm, _word(mine), _word(theirs), None)

    def verdicts(one: Side) -> dict[str, tuple[str, Any]]:
        answers = one.report.together.answers if one.report.together else ()
        return {f"{a.arm}, epsilon {a.claim.epsilon:g}": (a.verdict, a.claim) for a in answers}

    for of, (told, other) in _both(verdicts(first), verdicts(second)).items():
        why = _apart("claims", told[1].unit, other[1].unit, "units") if told and other else None
        if why is None and told and other:
            claims = [(claim.delta, claim.relation) for claim in (told[1], other[1])]
            why = None if claims[0] == claims[1] else _because(f"other claims: {claims[0]}, {claims[1]}")
        yield _row("verdict", of, _word(told and told[0]), _word(other and other[0]), why)


def _word(word: str | None) -> Value | None:
    return None if word is None else Value(word)


def _spent(first: Side, second: Side) -> Iterator[Row]:
    arms = [{arm.arm: arm.privacy for arm in one.report.arms if arm.private} for one in (first, second)]
    for name, (mine, theirs) in _both(*arms).items():
        why = None
        if mine and theirs:
            why = _apart("claims", mine.claim.unit, theirs.claim.unit, "units")
            if why is None and mine.claim.delta != theirs.claim.delta:
                why = _because(f"other deltas: {mine.claim.delta:g}, {theirs.claim.delta:g}")
        values = [_of(one, lambda spent: Value(spent.epsilon_pld)) for one in (mine, theirs)]
        yield _row("epsilon spent", name, values[0], values[1], why)


# ---- attacks


def _primary(one: Side) -> dict[str, Membership]:
    return {audit.arm: audit for audit in one.report.audits if audit.primary}


def _unlike(mine: Membership, theirs: Membership) -> str | None:
    """Why the guesses on two arms are not of the same thing."""
    if mine.unit != theirs.unit:
        return _apart("guesses", mine.unit, theirs.unit, "units")
    return _apart("recipes", mine.recipe, theirs.recipe, "recipes")


def _bounds(first: Side, second: Side) -> Iterator[Row]:
    for name, (mine, theirs) in _both(_primary(first), _primary(second)).items():
        bounds = [one.bound if one else None for one in (mine, theirs)]
        why = _unlike(mine, theirs) if mine and theirs else None
        if why is None and bounds[0] and bounds[1]:
            levels = [(b.delta, b.confidence, b.canaries, b.guesses) for b in bounds if b]
            names = ("deltas", "confidences", "numbers of canaries", "numbers of guesses")
            pairs = zip(names, *levels, strict=True)
            why = next((_because(f"other {n}: {a:g}, {b:g}") for n, a, b in pairs if a != b), None)
        lower = [_of(bound, lambda b: Value(b.epsilon_lower)) for bound in bounds]
        ceilings = [_of(bound, lambda b: Value(b.ceiling)) for bound in bounds]
        yield _row(
            "epsilon at least", name, lower[0], lower[1], why or (SAME if lower[0] == lower[1] else BOUNDS)
        )
        yield _row("ceiling of that bound", name, ceilings[0], ceilings[1], why)


def _areas(first: Side, second: Side) -> Iterator[Row]:
    for name, (mine, theirs) in _both(_primary(first), _primary(second)).items():
        areas = [one.canaries if one else None for one in (mine, theirs)]
        values = [_of(area, lambda a: Value(a.auc, a.auc_lower, a.auc_upper)) for area in areas]
        why = _unlike(mine, theirs) if mine and theirs else None
        yield _row("AUC on canaries", name, values[0], values[1], why)


def _secrets(first: Side, second: Side) -> Iterator[Row]:
    def found(one: Side) -> dict[str, Extraction]:
        return {extraction.arm: extraction for extraction in one.report.extraction}

    sizes = [one.plan.suite.candidates for one in (first, second)]
    why = None if sizes[0] == sizes[1] else _because("other planted secrets (candidates)")
    for name, both in _both(found(first), found(second)).items():
        values = [_of(one, lambda e: Value(e.found_rate, e.found_lower, e.found_upper)) for one in both]
        yield _row("planted secrets extracted", name, values[0], values[1], why)


# ---- quality


def _accuracies(first: Side, second: Side) -> Iterator[Row]:
    def found(one: Side) -> dict[tuple[str, str], TaskFigures]:
        return {(model.arm, row.task): row for model in one.report.quality for row in model.tasks}

    for (arm, task), both in _both(found(first), found(second)).items():
        asked = [one.tasks.tasks.get(task) if one.tasks else None for one in (first, second)]
        why = None if asked[0] == asked[1] else _because("other items, or asked in another way")
        why = why if all(asked) else _because("items of which a run does not say which they are")
        values = [
            _of(one, lambda row: Value(row.accuracy, row.accuracy_lower, row.accuracy_upper)) for one in both
        ]
        yield _row("accuracy", f"{arm}, {task}", values[0], values[1], why)


def _bits(first: Side, second: Side) -> Iterator[Row]:
    def found(one: Side) -> dict[str, Value]:
        told = {model.arm: model.bits_per_byte for model in one.report.quality}
        return {arm: Value(b.value, b.lower, b.upper) for arm, b in told.items() if b}

    why = _other_data(first, second)
    for arm, (mine, theirs) in _both(found(first), found(second)).items():
        yield _row("bits per byte", arm, mine, theirs, why)


def _win_rates(first: Side, second: Side) -> Iterator[Row]:
    def found(one: Side) -> dict[str, WinRate]:
        pairs = one.report.judge.pairs if one.report.judge else ()
        return {f"{pair.arm} against {pair.against}": pair for pair in pairs}

    judges = [one.report.judge for one in (first, second)]
    named = [(judge.rubric, judge.model) if judge else None for judge in judges]
    why = _other_data(first, second) if named[0] == named[1] else _because("other judges")
    for of, both in _both(found(first), found(second)).items():
        values = [_of(one, lambda pair: Value(pair.win_rate, pair.lower, pair.upper)) for one in both]
        yield _row("win rate", of, values[0], values[1], why)


def _other_data(first: Side, second: Side) -> str | None:
    """Why the held-out records are not known to be the same; None where they are."""
    mine, theirs = first.plan, second.plan
    if first.run_dir.path.resolve() == second.run_dir.path.resolve():
        return None
    if (mine.suite.data, mine.seed) != (theirs.suite.data, theirs.seed):
        return _because("other data, or another split of them (data, seed)")
    known = [
        {other.name for other in siblings.on_same_data(one.run_dir)} for one in (first, second)
    ]  # by the data's hashes
    is_known = second.run_dir.name in known[0] or first.run_dir.name in known[1]
    is_built_in = mine.suite.data.source.startswith("builtin:")
    return None if is_known or is_built_in else _because("nobody knows whether the data are the same")


# ---- rows


def _of(one: T | None, value: Callable[[T], Value]) -> Value | None:
    return None if one is None else value(one)


def _both(first: dict[Any, T], second: dict[Any, T]) -> dict[Any, tuple[T | None, T | None]]:
    return {key: (first.get(key), second.get(key)) for key in dict.fromkeys([*first, *second])}


def _apart(what: str, mine: str, theirs: str, kind: str) -> str | None:
    return None if mine == theirs else _because(f"other {kind}: {mine}, {theirs}")


def _because(why: str) -> str:
    return f"not comparable, because of {why}"


def _row(what: str, of: str, first: Value | None, second: Value | None, said: str | None) -> Row:
    """A row; without words of its own for what is said, those that the values call for."""
    if first is None or second is None:
        return Row(what, of, first, second, ABSENT)
    return Row(what, of, first, second, said or _said(first, second))


def _said(first: Value, second: Value) -> str:
    if first == second:
        return SAME
    if first.value is None or second.value is None:
        return _because("no value in one of them")
    limits = (first.lower, first.upper, second.lower, second.upper)
    if any(limit is None for limit in limits):
        return OTHER
    return APART if _lie_apart(*map(float, limits)) else OVERLAP  # type: ignore[arg-type]


def _lie_apart(lower: float, upper: float, other_lower: float, other_upper: float) -> bool:
    return upper < other_lower or other_upper < lower
