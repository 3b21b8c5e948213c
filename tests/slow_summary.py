"""Prints what tests/SLOW.md keeps of a `pytest -m slow` log: the machine without a date, each test, the count."""

import os
import platform
import re
import sys
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


def outcomes(log: str) -> list[str]:
    """The lines PASSED/FAILED/... of the short summary, the timings, and the last count."""
    kept = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) |^\d+\.\d+s (call|setup) |^\d+ \w+.* in ")
    return [line.strip("= ") for line in map(str.strip, log.splitlines()) if kept.match(line.strip("= "))]


if __name__ == "__main__":
    lines = outcomes(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(
        "# The slow checks\n\nWritten by `make test-slow`; nobody edits it.\n\n"
        + machine()
        + "\n\n```\n"
        + "\n".join(lines)
        + "\n```"
    )
