"""`dpaudit doctor`: what this machine has, and packages against those that the project was tested with."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Any

import typer

from dpaudit import __version__
from dpaudit.commands import options, output
from dpaudit.system.progress import Progress

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"  # in a checkout; a wheel has none
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def doctor(
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test", help="Audit the auditor: the engine and every broken trainer, without a model."
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other runs of the self-test.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Number of processes; by default one per core."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Check the machine, or with --self-test the auditor itself."""
    if not self_test:
        output.show(machine(), as_json)
        return
    from dpaudit.commands import selftest

    result = selftest.run(Progress(), seed, workers or cores())
    output.show(result, as_json)
    raise typer.Exit(0 if result["passed"] else 1)


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
