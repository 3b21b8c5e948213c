"""The JSON Schema of a report: a real report fits, and every planted edit of its shape does not."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabricate
import pytest

from dpaudit.findings import json_schema
from dpaudit.findings.report import Report
from dpaudit.stages import report

SCHEMA = json_schema.of(Report)
TYPES: dict[str, Any] = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}


def faults(schema: dict[str, Any], value: Any, at: str = "") -> Iterator[str]:
    """The places at which a value does not fit, by as much of draft 2020-12 as these schemas use."""
    assert set(schema) <= {
        "$schema", "$id", "$defs", "$ref", "title", "description", "type", "properties", "required",
        "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "anyOf", "enum", "const",
        "minimum", "maximum",
    }  # fmt: skip
    if "$ref" in schema:
        yield from faults(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, at)
        return
    if "anyOf" in schema and all(list(faults(one, value, at)) for one in schema["anyOf"]):
        yield f"{at}: none of several"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: another value"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: not among the values"
    kind = schema.get("type")
    if kind in ("number", "integer"):
        if isinstance(value, bool) or not isinstance(value, int | (float if kind == "number" else int)):
            yield f"{at}: no {kind}"
        elif not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{at}: out of range"
    elif kind is not None and not isinstance(value, TYPES[kind]):
        yield f"{at}: no {kind}"
    elif kind == "object":
        yield from _members(schema, value, at)
    elif kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{at}: another length"
        each = schema.get("prefixItems") or [schema["items"]] * len(value)
        for index, (one, inner) in enumerate(zip(each, value, strict=False)):
            yield from faults(one, inner, f"{at}/{index}")


def _members(schema: dict[str, Any], value: dict[str, Any], at: str) -> Iterator[str]:
    known, others = schema.get("properties", {}), schema["additionalProperties"]
    yield from (f"{at}/{name}: missing" for name in schema.get("required", ()) if name not in value)
    for name, inner in value.items():
        if name not in known and others is False:
            yield f"{at}/{name}: unknown"
        else:
            yield from faults(known.get(name, others), inner, f"{at}/{name}")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report.present(*fabricate.run(tmp_path_factory.mktemp("runs"))).to_json()


def test_the_schema_names_its_version() -> None:
    assert SCHEMA["properties"]["format"] == {"const": Report.FORMAT}
    assert SCHEMA["$id"] == f"urn:dpaudit:{Report.FORMAT.replace('/', ':')}"
    assert SCHEMA["$schema"].endswith("2020-12/schema")


def test_a_report_fits(written: dict[str, Any], tmp_path: Path) -> None:
    assert list(faults(SCHEMA, written)) == []
    assert list(faults(SCHEMA, report.present(*fabricate.run(tmp_path, ("train",))).to_json())) == []


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (("format",), "report/1", "/format: another value"),
        (("run", "seed"), "0", "/run/seed: no integer"),
        (("run", "seed"), 1.5, "/run/seed: no integer"),
        (("run", "extra"), 1, "/run/extra: unknown"),
        (("release", 0, "word"), "anonymous", "/release/0/word: not among the values"),
        (("audits", 0, "canaries", "auc"), 1.5, "/audits/0/canaries/auc: out of range"),
        (("arms", 0, "epsilon"), "nan", "/arms/0/epsilon: none of several"),
        (("arms",), {}, "/arms: no array"),
    ],
)
def test_another_shape_does_not(
    place: tuple[Any, ...], value: Any, fault: str, written: dict[str, Any]
) -> None:
    edited = copy.deepcopy(written)
    inner: Any = edited
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    assert list(faults(SCHEMA, edited)) == [fault]


def test_a_missing_key_is_named(written: dict[str, Any]) -> None:
    edited = copy.deepcopy(written)
    del edited["rule"]["date"]
    assert list(faults(SCHEMA, edited)) == ["/rule/date: missing"]
