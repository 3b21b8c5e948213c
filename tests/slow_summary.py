"""Prints what tests/SLOW.md keeps of a `pytest -m slow` log: the machine without a date, each test, the
count.
"""

import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("torch", "transformers", "peft", "dp-accounting", "lm-eval")


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores, {memory:.0f} GiB memory, "
        f"Python {platform.python_version()}, {packages}"
    )


KEPT = re.compile(
    r"^(?:(?:PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) |\d+\.\d+s (?:call|setup) +)(\S+::\S.*?)?(?: - "
    r".*)?$|^\d+ (?:passed|failed|of \d+ came).*"
)


def outcomes(logs: Sequence[str]) -> list[str]:
    """The timings, the outcomes and the counts. A test that was run again stands there as it ended last."""
    kept = dict[tuple[bool, str], str]()
    for number, log in enumerate(logs):
        for line in (line.strip("= ") for line in map(str.strip, log.splitlines())):
            if found := KEPT.match(line):
                is_timing = re.match(r"\d+\.\d+s ", line) is not None
                kept[is_timing, found[1] or f"{number} {line}"] = line
    timings = [line for (is_timing, _), line in kept.items() if is_timing]
    others = [line for (is_timing, _), line in kept.items() if not is_timing]
    return sorted(timings, key=lambda line: -float(line.split("s", 1)[0])) + others


if __name__ == "__main__":
    lines = outcomes([Path(name).read_text(encoding="utf-8") for name in sys.argv[1:]])
    print(
        "# The slow checks\n\nWritten by `make test-slow`, or by `tests/slow_summary.py` from its log and "
        "those of what was run again; nobody edits it.\n\n"
        + machine()
        + "\n\n```\n"
        + "\n".join(lines)
        + "\n```"
    )
