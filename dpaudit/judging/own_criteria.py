"""Prompts that carry criteria of their own: a row each, in the form of HealthBench's files (Arora et al.
2025, arXiv 2505.08775; openai/simple-evals).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.data import identity, judged_files
from dpaudit.data.answer_files import fields_of
from dpaudit.data.columns import Fields
from dpaudit.data.corpus import Turn
from dpaudit.data.judged_files import Judged
from dpaudit.errors import Gathering, UsageError, kind_of
from dpaudit.judging.rubric import Criterion, Rubric

NAMES = ("prompt_id", "id", "name_key")
RUBRICS = "rubrics"
POINTS_MOST = 1e6
ROWS_MOST = 20  # wrong rows that are told
DOCS = "docs/judges.md shows the form"


@dataclass(frozen=True)
class Graded:
    """One prompt with the criteria of its answers."""

    where: str  # file and line
    id: str
    turns: tuple[Turn, ...]  # ends with the user
    criteria: tuple[Criterion, ...]


def read(file: Path) -> tuple[Graded, ...]:
    """The rows of a file, in its order. Further keys, such as `tags`, are not looked at.

    Raises UsageError, or Mistakes with a line for each wrong row, which name file, line and key, and quote no
    text.
    """
    found: dict[str, Graded] = {}
    faults, lines = Gathering(), 0

    def read_all() -> None:
        nonlocal lines
        for where, fields in fields_of(file):
            lines += 1
            row = faults.value(_row, fields, where, found)
            if row is not None:
                found[row.id] = row

    faults.passes(read_all)
    more = len(faults.errors) - ROWS_MOST
    if more > 0:
        more_rows = f"{more} further ones with a mistake"
        faults.errors[ROWS_MOST:] = [UsageError(str(file), "rows as docs/judges.md shows them", more_rows)]
    faults.end()
    if not lines:
        raise UsageError(str(file), "at least one prompt with criteria", "none", DOCS)
    return tuple(found.values())


def matched(file: Path, rows: Sequence[Graded], items: Sequence[Judged]) -> dict[str, tuple[Criterion, ...]]:
    """Id of an item -> the criteria of its prompt, by the id, else by the prompt. Raises UsageError for an
    item without any, and where rows of the file disagree with it or with each other.
    """
    by_id, by_prompt = {row.id: row for row in rows}, dict[tuple[Turn, ...], list[Graded]]()
    for row in rows:
        by_prompt.setdefault(row.turns, []).append(row)
    lone = [item.id for item in items if item.id not in by_id and item.turns not in by_prompt]
    if lone:
        raise UsageError(
            f"--criteria {file}",
            "criteria for every prompt that is answered",
            f"none for the id {lone[0]:.60} ({len(lone)} of {len(items)} prompts without)",
            "add them, or leave the answers out of both files",
        )
    return {item.id: _own(item, by_id.get(item.id), by_prompt.get(item.turns, ())) for item in items}


def _own(item: Judged, named: Graded | None, alike: Sequence[Graded]) -> tuple[Criterion, ...]:
    if named is not None and named.turns != item.turns:
        raise UsageError(
            f"{named.where}: prompt",
            "the prompt of the answers",
            f"another prompt under the id {item.id:.60}",
            "correct one of them",
        )
    if named is None and len({row.criteria for row in alike}) > 1:
        raise UsageError(
            f"{alike[1].where}: prompt",
            "one row a prompt, where the answers have no ids of this file",
            f"the prompt of row {alike[0].where.rpartition(':')[2]} again",
            "write the file's ids into both files of answers",
        )
    return (named or alike[0]).criteria


def require_criteria(rules: Rubric, file: Path) -> None:
    """Raises UsageError for a rubric that does not ask one criterion at a time."""
    if not rules.criteria:
        raise UsageError(
            f"--criteria {file}",
            "a rubric of weighted criteria beside it, by which the judge proves itself",
            f"the rubric {rules.name}, which compares two answers",
            "--rubric criteria, or a copy of judges/criteria.yaml with your server; --set "
            "judging.criteria=null takes a run back to held-out prompts",
        )


def cautions(file: str, judged: int, whole: int) -> tuple[str, ...]:
    """What must be known of every rate by the criteria of a file of `whole` prompts."""
    proven = f"the judge is proven on the criteria of its rubric, not on those of {file}"
    return (
        proven,
        *([f"{judged:,} of the {whole:,} prompts of {file} are judged"] if judged < whole else []),
    )


def _row(fields: Fields, where: str, known: Mapping[str, Graded]) -> Graded:
    key = next((key for key in NAMES if fields.get(key) not in (None, "")), None)
    name = identity.of(fields[key], f"{where}: {key}") if key else None
    if name is None:
        raise UsageError(f"{where}: {NAMES[0]}", "the prompt's id", "none", DOCS)
    if name in known:
        first = known[name].where.rpartition(":")[2]
        raise UsageError(
            f"{where}: {key}",
            "an id that occurs once",
            f"the id of row {first} again",
            "leave one of them out",
        )
    turns, _ = judged_files.asked(fields, where)
    if turns is None:
        raise UsageError(f"{where}: prompt", "a question, or a list of messages", "none", DOCS)
    return Graded(where, name, turns, _criteria(fields.get(RUBRICS), f"{where}: {RUBRICS}"))


def _criteria(value: Any, where: str) -> tuple[Criterion, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        got = "an empty list" if value == [] else kind_of(value)
        raise UsageError(where, "a list of criteria with their points", got, DOCS)
    made = tuple(_criterion(one, f"{where}[{place}]") for place, one in enumerate(value))
    if not any(one.points > 0 for one in made):
        raise UsageError(
            where,
            "one criterion with points above 0 at least",
            "none",
            "a score is a share of all points above 0: add one, or leave the row out",
        )
    texts = [one.criterion for one in made]
    twice = next((place for place, text in enumerate(texts) if text in texts[:place]), None)
    if twice is not None:
        raise UsageError(
            f"{where}[{twice}]: criterion",
            "different texts",
            f"that of [{texts.index(texts[twice])}] again",
            "remove one: it would count twice",
        )
    return made


def _criterion(value: Any, where: str) -> Criterion:
    if not isinstance(value, Mapping):
        raise UsageError(where, "a mapping with criterion and points", kind_of(value), DOCS)
    text, points = value.get("criterion"), value.get("points")
    if not isinstance(text, str) or not text.strip():
        got = "an empty text" if isinstance(text, str) else kind_of(text)
        raise UsageError(f"{where}: criterion", "a text", got, DOCS)
    if isinstance(points, bool) or not isinstance(points, int | float):
        raise UsageError(f"{where}: points", "a number above or below 0", kind_of(points), DOCS)
    if points == 0 or not abs(points) <= POINTS_MOST:
        got = "0" if points == 0 else "no finite number" if points != points else "a number out of range"
        raise UsageError(
            f"{where}: points",
            f"a number above or below 0, at most {POINTS_MOST:,.0f} in size",
            got,
            "a criterion of no worth changes nothing: remove it" if points == 0 else "correct it",
        )
    return Criterion(text.strip(), float(points))
