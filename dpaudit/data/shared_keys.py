"""The keys of a benchmark's rows that say what items share: a passage, a condition, a patient. Items that
share one are one draw.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NAMES = _words(
    "abstract article case condition context document encounter note paragraph passage patient report story "
    "transcript vignette 患者 病人 病例 病历 段落 文章 材料"
)
OTHERS = _words("admission cluster dialogue group hadm mrn pmid scenario source stay subject")
ENDS = _words("id ids no nr num number key text name uuid hash index 编号 号")
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[\u3400-\u9fff]+")


def named_keys(metadata: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """The keys that a task's YAML names under `metadata.cluster`, one or a list; None where it names none."""
    cluster = (metadata or {}).get("cluster")
    return (cluster,) if isinstance(cluster, str) else None if cluster is None else tuple(cluster)


def shared_of(row: Mapping[str, Any], named: Collection[str] | None = None) -> dict[str, str]:
    """What a row shares with others, by key, without case and blanks: the keys `named`; where none are, all
    that are NAMES, alone or with an end such as `_id`.
    """
    keys = [key for key in row if is_shared(key)] if named is None else named
    found = {key: " ".join(str(row[key]).split()).casefold() for key in keys if not _is_empty(row.get(key))}
    return {key: value for key, value in found.items() if value}


def is_shared(key: str) -> bool:
    """Whether a key names what items share.

    >>> [is_shared(key) for key in ("context", "patientId", "PASSAGES", "患者编号", "use_case", "subject")]
    [True, True, True, True, False, False]
    """
    parts = _parts(key)
    while len(parts) > 1 and parts[-1] in ENDS:
        parts.pop()
    return len(parts) == 1 and (parts[0] in NAMES or _without_end(parts[0]) in NAMES)


def unused(rows: Iterable[Mapping[str, Any]], used: Collection[str]) -> list[str]:
    """The keys that look like those of something shared, have one value in several rows, and are not among
    `used`.
    """
    values: dict[str, list[str]] = {}
    for row in rows:
        for key in row:
            if key not in used and _looks_shared(key) and not _is_empty(row[key]):
                values.setdefault(key, []).append(str(row[key]))
    return [key for key, found in values.items() if len(set(found)) < len(found)]


def _looks_shared(key: str) -> bool:
    parts = _parts(key)
    named = any(part in NAMES or _without_end(part) in NAMES for part in parts)
    return named or (parts[:1] != parts[-1:] and parts[-1] in ENDS and bool(OTHERS & set(parts)))


def _parts(key: str) -> list[str]:
    return [part.lower() for part in _PART.findall(key)] or [key]


def _without_end(part: str) -> str:
    """A name in the singular, or without the sign for a number that Chinese joins to it."""
    for end in ("s", "编号", "号", "id"):
        if part.endswith(end) and len(part) > len(end):
            return part[: -len(end)]
    return part


def _is_empty(value: Any) -> bool:
    return value is None or value == [] or value == ""
