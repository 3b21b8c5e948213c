"""The JSON Schema (draft 2020-12) of a finding's file, and of the files that people write (suites, recipes,
rubrics), from their dataclasses: names, types, ranges; of written files defaults and comments too.
"""

import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any

from dpaudit.findings.finding import FORMAT, Finding
from dpaudit.schema import comments, plain

Made = Callable[[Any, dict[str, Any]], dict[str, Any]]  # the schema of a dataclass
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    # JSON has no infinite number: it is written as a text
    float: {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf"]}]},
    type(None): {"type": "null"},
    Any: {},
}
# YAML 1.1 reads 1e-5 as a text
YAML_NUMBER = {
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[-+]?(\d+\.?\d*(e[-+]?\d+)?|inf)$"}]
}


def of(cls: type[Finding]) -> dict[str, Any]:
    """The schema of `cls.to_json()`. Every key of a finding is there, and no other is."""
    definitions: dict[str, Any] = {}
    whole = _object(cls, definitions)
    properties = {FORMAT: {"const": cls.FORMAT}, **whole["properties"]}
    return {
        "$schema": DIALECT,
        "$id": f"urn:dpaudit:{cls.FORMAT.replace('/', ':')}",
        "title": cls.FORMAT,
        **whole,
        "properties": properties,
        "required": [FORMAT, *whole["required"]],
        "$defs": dict(sorted(definitions.items())),
    }


def written(cls: type[Any], name: str) -> dict[str, Any]:
    """The schema of the YAML file that `cls` is built from: a key with a default may be left out; what stands
    beside a key as a comment is its description.
    """
    definitions: dict[str, Any] = {}
    whole = _settings(cls, definitions)
    defined = dict(sorted(definitions.items()))
    return {"$schema": DIALECT, "$id": f"urn:dpaudit:{name}", "title": name, **whole, "$defs": defined}


def _settings(cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    about, needed = comments(cls), []
    whole = _object(cls, definitions, _settings)
    for field in fields(cls):
        of_field = whole["properties"][field.name]
        if field.name in about:
            of_field["description"] = about[field.name]
        if field.default is not MISSING:
            of_field["default"] = plain(field.default)
        elif field.default_factory is not MISSING:
            of_field["default"] = plain(field.default_factory())
        else:
            needed.append(field.name)
    return whole | {"required": needed}


def _object(cls: Any, definitions: dict[str, Any], inner: Made | None = None) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    named = {field.name: _schema(hints[field.name], definitions, inner or _object) for field in fields(cls)}
    about = " ".join((cls.__doc__ or "").split())
    return {
        "type": "object",
        **({"description": about} if about else {}),
        "properties": named,
        "required": list(named),
        "additionalProperties": False,
    }


def _schema(hint: Any, definitions: dict[str, Any], made: Made) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _ranged(arguments[0], arguments[1], definitions, made)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(inner, definitions, made) for inner in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], definitions, made)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions, made)}
    if is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, tuple)):
        return _defined(hint, definitions, made)
    return dict(YAML_NUMBER if hint is float and made is _settings else PLAIN[hint])


def _ranged(hint: Any, within: Any, definitions: dict[str, Any], made: Made) -> dict[str, Any]:
    low, high = within
    limits = {"minimum": low} | ({} if math.isinf(high) else {"maximum": high})
    if hint is not float:
        return {**_schema(hint, definitions, made), **limits}
    number: dict[str, Any] = {"type": "number", **limits}
    return {"anyOf": [number, {"const": "inf"}]} if math.isinf(high) else number


def _defined(cls: Any, definitions: dict[str, Any], made: Made) -> dict[str, Any]:
    """A reference to the schema of a dataclass, or of a NamedTuple, which stands as a list."""
    name = f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
    if name not in definitions:
        definitions[name] = {}  # a class that holds itself ends here
        definitions[name] = made(cls, definitions) if is_dataclass(cls) else _row(cls, definitions, made)
    return {"$ref": f"#/$defs/{name}"}


def _row(cls: Any, definitions: dict[str, Any], made: Made) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    items = [_schema(hints[name], definitions, made) for name in cls._fields]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
