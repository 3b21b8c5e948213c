"""`list`: what ships with dpaudit, and what the user's own folders add to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dpaudit import content, terminal
from dpaudit.commands import options, output
from dpaudit.errors import UsageError
from dpaudit.findings import json_schema
from dpaudit.planting import families

Kind = Literal["suites", "recipes", "judges", "tasks", "families"]
Row = dict[str, str]


def list_shipped(
    kind: Annotated[
        Kind | None,
        typer.Argument(metavar="[KIND]", help="suites, recipes, judges, tasks or families; default: all."),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            help="Print the JSON Schema of such a file, for an editor: of suites, recipes or judges.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List what ships and what your own folders add: suites, recipes, judges, tasks, canary families."""
    if schema:
        terminal.echo(terminal.as_json(_schema(kind)))
        return
    found: dict[str, Any] = {name: ROWS[name]() for name in ([kind] if kind else ROWS)}
    if as_json:
        output.show(found, as_json)
        return
    for name, rows in found.items():
        width = max(len(row["name"]) for row in rows)
        lines = [f"  {row['name']:<{width}}  {row['what']}{_told(row)}" for row in rows]
        terminal.echo("\n".join([name, *map(terminal.visible, lines), ""]))


def _schema(kind: Kind | None) -> dict[str, Any]:
    forms = written_files()
    if kind not in forms:
        raise UsageError(
            "dpaudit list --schema",
            "one of suites, recipes, judges",
            kind or "no kind",
            "dpaudit list suites --schema",
        )
    cls, name = forms[kind]
    return json_schema.written(cls, name)


def written_files() -> dict[Kind | None, tuple[type[Any], str]]:
    """Kind -> the dataclass that a file of it is built into, and what such a file is called."""
    from dpaudit.judging.rubric import Rubric
    from dpaudit.signals.recipe import Recipe
    from dpaudit.suite.suite import Suite

    return {"suites": (Suite, "suite"), "recipes": (Recipe, "recipe"), "judges": (Rubric, "rubric")}


def _told(row: Row) -> str:
    return "" if row["from"] == "dpaudit" else f" ({row['from']})"


def _suites() -> list[Row]:
    return [_row(file, "description") for file in _files("suites")]


def _recipes() -> list[Row]:
    return [_row(file, "title") | {"kind": _kind(file)} for file in _files("attacks")]


def _kind(file: Path) -> str:
    kind = content.load_yaml(file).get("kind")
    if kind is None:
        raise UsageError(
            f"{file}: kind", "the kind of the recipe", "no such key", "dpaudit list recipes --schema"
        )
    return str(kind)


def _judges() -> list[Row]:
    return [_row(file, "title") for file in _files("judges")]


def _tasks() -> list[Row]:
    """Those that take a file of items; what they are stands in their first line."""
    shipped = content.shipped("suites") / "tasks"
    own = Path.cwd() / "suites/tasks"
    named = {file.stem: file for place in (shipped, own) if place.is_dir() for file in place.glob("*.yaml")}
    told = {name: content.text(file).split("\n", 1)[0] for name, file in named.items()}
    return [
        {
            "name": name,
            "what": line.lstrip("# ") if line.startswith("#") else "",
            "from": _origin(named[name]),
        }
        for name, line in sorted(told.items())
    ]


def _families() -> list[Row]:
    return [{"name": name, "what": what, "from": where} for name, what, where in families.listing()]


def _files(folder: str) -> list[Path]:
    return [file for _, file in sorted(content.listing(folder).items())]


def _row(file: Path, key: str) -> Row:
    return {"name": file.stem, "what": str(content.load_yaml(file).get(key, "")), "from": _origin(file)}


def _origin(file: Path) -> str:
    ships = any(file.is_relative_to(content.shipped(folder)) for folder in content.FOLDERS)
    return "dpaudit" if ships else "your folder"


ROWS: dict[Kind, Callable[[], list[Row]]] = {
    "suites": _suites,
    "recipes": _recipes,
    "judges": _judges,
    "tasks": _tasks,
    "families": _families,
}
