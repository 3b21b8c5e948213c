"""Every difference between two report.json of one run, the first from before findings were dataclasses.

    python tests/compare_reports.py OLD.json NEW.json

A figure keeps its place unless MOVED names another. What is absent, null or empty counts as the same. Exit
code 1 where a figure changed or is gone.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOVED: tuple[tuple[str, str], ...] = ()  # regular expression of an old place, its new place: none moved
ADDED = (  # places that the new report has and the old one had not
    r"/format",
    r"/audits/\d+/unit",
    r"/audits/\d+/bound/(correct_at_most|equal_scores)",
    r"/(extraction|discoverable|pii)/\d+/(kind|signal)",
    r"/discoverable/\d+/(queries_needed|by_repetitions)/.*",
    r"/quality/\d+/heldout_left_out",
    r"/together/(primary|family|caveat|rows/.*)",
    r"/judge/reason",
    r"/claims/\d+/adapter_sha256",
)
IGNORED = (  # hashes of the files that a report was made from; what a clock or the machine says
    r"/(inputs|custody)/.*|/(asked|claims)/\w+/date|"
    r"/arms/\d+/training/(seconds|device|peak_memory_mb|tokens_per_second)"
)
NOTHING: tuple[Any, ...] = (None, {}, [])


def main(old: str, new: str) -> int:
    lines = list(differences(*(json.loads(Path(file).read_text(encoding="utf-8")) for file in (old, new))))
    print("\n".join(lines) or "no difference")
    return int(any(not line.startswith("new ") for line in lines))


def differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """A line for each figure that is new, gone or another one."""
    before = {moved(place): value for place, value in leaves(old)}
    after = dict(leaves(new))
    for place in sorted({*before, *after}):
        was, now = before.get(place), after.get(place)
        if was == now or (was in NOTHING and now in NOTHING) or re.fullmatch(IGNORED, place):
            continue
        if was is None and any(re.fullmatch(pattern, place) for pattern in ADDED):
            yield f"new {place}: {now!r:.60}"
        elif was is None:
            yield f"unexpected {place}: {now!r:.60}"
        elif now is None:
            yield f"gone {place}: {was!r:.60}"
        else:
            yield f"changed {place}: {was!r:.60} -> {now!r:.60}"


def moved(place: str) -> str:
    """Where a figure of an old report stands in a new one."""
    for pattern, target in MOVED:
        if re.fullmatch(pattern, place):
            return re.sub(pattern, target, place)
    return place


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no list and no mapping, with its JSON pointer; infinity is the text "inf"."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{place}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{place}/{index}")
    else:
        is_infinite = isinstance(value, float) and math.isinf(value)
        yield place, str(value) if is_infinite else value


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
