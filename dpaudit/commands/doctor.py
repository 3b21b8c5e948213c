"""What this machine has: processor, memory, accelerator, and packages against those that the project was
tested with.
"""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from dpaudit import __version__

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"  # in a checkout; a wheel has none
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def machine() -> dict[str, Any]:
    """What the command prints, JSON-ready: versions, cores, memory in GiB, accelerators, packages that are
    imported.
    """
    import psutil
    import torch

    memory = psutil.virtual_memory()
    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "dpaudit": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cores": cores(),
        "memory_gib": round(memory.total / 2**30, 1),
        "memory_free_gib": round(memory.available / 2**30, 1),
        "accelerators": accelerators or ["none"],
        "packages": packages(CONSTRAINTS),
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def packages(constraints: Path) -> list[dict[str, Any]]:
    """A row for each package that this one asks for: what is installed, what was tested (None where nobody
    says).
    """
    tested = _tested(constraints)
    rows = []
    for name in _required():
        installed, known = _installed(name), tested.get(name.lower())
        same = None if known is None else installed is not None and installed.split("+")[0] == known
        rows.append({"package": name, "installed": installed, "tested": known, "same": same})
    return rows


def _required() -> list[str]:
    try:
        asked = requires("dpaudit") or []
    except PackageNotFoundError:  # a source tree that was never installed
        asked = []
    return [match[0] for line in asked if "extra ==" not in line and (match := _NAME.match(line))]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _tested(constraints: Path) -> dict[str, str]:
    if not constraints.is_file():
        return {}
    lines = constraints.read_text(encoding="utf-8").splitlines()
    return {name.strip().lower(): pin.strip() for name, _, pin in (line.partition("==") for line in lines)}
