"""Checks every item of a benchmark's file against its task, before anything is trained.

Otherwise an answer index beyond the choices would fail after hours of training, an index of -1 would count as
the last choice, and two items of one id would count as one.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from dpaudit.data import json_rows, rows
from dpaudit.data.lines import suffix_of
from dpaudit.errors import Gathering, UsageError, kind_of

REMEDY = "correct the file (docs/content.md has the keys of each task), or leave the task out"
OTHERS = (
    ".csv",
    ".tsv",
    ".parquet",
    ".arrow",
    ".txt",
)  # the benchmark's own reader would take these for JSON
Item = Mapping[str, Any]
NAMED_MOST = 20  # rows that a message names


def check(file: Path, config: Mapping[str, Any]) -> None:
    """Raises UsageError for the first row with each kind of mistake, with how many rows have it: all kinds
    together.

    `config` is the task's YAML. No message quotes a text.
    """
    if suffix_of(file) in OTHERS:
        raise UsageError(
            str(file),
            "items in JSON lines",
            f"a {suffix_of(file)[1:]} file",
            "save them as .jsonl, one object a line",
        )
    mistakes, task = _Kinds(), _Task.of(config)
    seen = _Seen()
    for number, row in rows.of_file(file):
        where = f"{file}:{number}"
        try:
            fields = json_rows.parsed(row, where) if isinstance(row, str) else row
        except UsageError as error:
            mistakes.add("row", number, error)
            continue
        for kind, key, expected, got in (*_wrong(task, fields), *seen.wrong(task, fields)):
            mistakes.add(kind, number, UsageError(f"{where}: {key}", expected, got, REMEDY))
    if not seen.items and not mistakes.first:
        raise UsageError(str(file), "at least one item", "no item", REMEDY)
    mistakes.end()


def keys(config: Mapping[str, Any]) -> frozenset[str]:
    """The keys that a row of a task must have; `config` is the task's YAML."""
    return _Task.of(config).fields


@dataclass
class _Kinds:
    """The first mistake of each kind, and how often the kind occurs."""

    first: dict[str, UsageError] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)

    def add(self, kind: str, row: int, error: UsageError) -> None:
        self.first.setdefault(kind, error)
        self.rows.setdefault(kind, []).append(row)

    def end(self) -> None:
        gathering = Gathering()
        for kind, error in self.first.items():
            rows, got = self.rows[kind], error.got
            if len(rows) > 1:
                more = ", …" if len(rows) > NAMED_MOST else ""
                named = ", ".join(map(str, rows[:NAMED_MOST])) + more
                got = f"{got}, in {len(rows):,} rows ({named})"
            gathering.errors.append(UsageError(error.where, error.expected, got, error.remedy))
        gathering.end()


Wrong = tuple[str, str, str, str]  # kind, key, expected, got


@dataclass
class _Seen:
    """Checks across rows: ids occur once, answers are all of one type."""

    items: int = 0
    ids: dict[str, int] = field(default_factory=dict)  # and the item that has it first
    answers: type | None = None

    def wrong(self, task: "_Task", item: Item) -> Iterator[Wrong]:
        self.items += 1
        if item.get("id") is not None:
            name = str(item["id"])
            if name in self.ids:
                yield "id", "id", "an id that occurs once", f"the id of item {self.ids[name]} again"
            self.ids.setdefault(name, self.items)
        answer = item.get(task.target) if task.target else None
        if isinstance(answer, int | str) and not isinstance(answer, bool):
            self.answers = self.answers or type(answer)
            if type(answer) is not self.answers:
                yield (
                    "types",
                    str(task.target),
                    "a number in every row, or a text in every row",
                    "numbers and texts",
                )


@dataclass(frozen=True)
class _Task:
    """What a task's YAML asks of a row: the fields that its texts name, where the answer stands, what the
    choices are.
    """

    fields: frozenset[str]
    target: str | None  # the field of the answer; None where the YAML says it otherwise
    choices: Any  # as doc_to_choice

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "_Task":
        templates = [config.get(key) for key in ("doc_to_text", "doc_to_choice", "doc_to_target")]
        named = {name for text in templates if isinstance(text, str) for name in _names(text)}
        cluster = (config.get("metadata") or {}).get("cluster") or ()
        target = config.get("doc_to_target")
        plain = target if isinstance(target, str) and target.isidentifier() else None
        return cls(
            frozenset({*named, *([cluster] if isinstance(cluster, str) else cluster)}),
            plain,
            config.get("doc_to_choice"),
        )

    def options(self, item: Item) -> list[Any] | None:
        """The choices that the row is asked with; None where they cannot be determined."""
        choices = self.choices
        if isinstance(choices, dict):
            choices = list(choices.values())
        elif isinstance(choices, str):
            choices = item.get(choices) if choices.isidentifier() else _rendered(choices, item)
        return choices if isinstance(choices, list) else None


def _wrong(task: _Task, item: Item) -> Iterator[Wrong]:
    """What is wrong with one row by itself."""
    if missing := [name for name in sorted(task.fields) if name not in item]:
        keys, lost = _listed(sorted(task.fields)), _listed(missing)
        yield (
            f"without {lost}",
            lost,
            f"rows with the keys {keys}, which the task needs",
            f"a row without {lost}",
        )
        return
    empty = [name for name in sorted(task.fields) if _is_empty(item[name])]
    for name in empty:
        yield f"empty {name}", name, "a value in every row, since the task needs it", "an empty value"
    if empty:
        return
    own = item.get("choices") if "choices" in task.fields else None
    if own is not None and not _are_choices(own):
        yield (
            "choices",
            "choices",
            "a list of two or more texts, none of them empty",
            "a value of another shape",
        )
        return
    options = task.options(item)
    if options is None:
        return
    if isinstance(own, list) and len(options) != len(own):
        yield (
            "many",
            "choices",
            f"at most {len(options)} choices, which the task has letters for",
            f"{len(own)} choices",
        )
    elif task.target and not _is_place(item[task.target], options):
        yield "answer", task.target, *_answer(item[task.target], options)
    elif task.target and _is_twice(item[task.target], own if isinstance(own, list) else options):
        yield "twice", "choices", "a right choice that differs from the others", "the same choice again"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _is_empty(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _are_choices(value: Any) -> bool:
    are_texts = isinstance(value, list) and all(
        isinstance(choice, str) and choice.strip() for choice in value
    )
    return are_texts and len(value) > 1


def _is_place(answer: Any, options: list[Any]) -> bool:
    if isinstance(answer, list):
        return bool(answer) and all(_is_place(place, options) for place in answer)
    if isinstance(answer, str):
        return answer.strip() in [str(option).strip() for option in options]
    return isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options)


def _is_twice(answer: Any, options: list[Any]) -> bool:
    """Whether a wrong choice is the right one once more, so that nobody can know which to give."""
    texts = [str(option).strip() for option in options]
    right = texts[answer] if isinstance(answer, int) else str(answer).strip()
    return texts.count(right) > 1


def _answer(answer: Any, options: list[Any]) -> tuple[str, str]:
    """What a wrong answer should be, and what it is."""
    if isinstance(answer, str):
        return (
            f"one of the {len(options)} choices, or its index from 0 to {len(options) - 1}",
            "a text that is not a choice",
        )
    is_number = isinstance(answer, int | float) and not isinstance(answer, bool)
    return (
        f"the index of a choice, from 0 to {len(options) - 1}",
        f"{answer!s:.40}" if is_number else kind_of(answer),
    )


def _names(text: str) -> set[str]:
    """The fields of a row that a template names, or the one that a plain name is."""
    import jinja2
    import jinja2.meta

    if text.isidentifier():
        return {text}
    try:
        return jinja2.meta.find_undeclared_variables(jinja2.Environment(autoescape=True).parse(text))
    except jinja2.TemplateSyntaxError:  # reported when the task itself is loaded
        return set()


def _rendered(text: str, item: Item) -> Any:
    """What a template that writes a list makes of a row; None where it makes none."""
    import jinja2

    try:
        return ast.literal_eval(_compiled(text).render(**item))
    except (jinja2.TemplateError, ValueError, SyntaxError, TypeError):
        return None


@lru_cache(maxsize=64)
def _compiled(text: str) -> Any:
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=jinja2.StrictUndefined).from_string(text)
