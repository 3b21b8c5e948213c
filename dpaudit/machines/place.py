"""Where arms are trained: what `--on` names, and whether it is there. Looks before anything is written."""

import importlib.util
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import Literal

from dpaudit.errors import PartialError, UsageError

Engine = Literal["ray", "slurm"]
PACKAGES: dict[Engine, str] = {"ray": "ray", "slurm": "submitit"}
FORMS = "local, ray[=ADDRESS] or slurm[=PARTITION]"
ANSWER = 5.0  # seconds for a connection
LIST = 30.0  # seconds for Slurm to list its partitions


@dataclass(frozen=True)
class Place:
    """An engine on other machines. `name`: the address of a Ray, the partition of a Slurm; None: its
    default.
    """

    engine: Engine
    name: str | None = None

    def __str__(self) -> str:
        return self.engine if self.name is None else f"{self.engine}={self.name}"

    def told(self) -> str:
        """Where arms are trained, in words."""
        if self.engine == "slurm":
            return f"on Slurm, {f'partition {self.name}' if self.name else 'its default partition'}"
        return (
            f"on the Ray at {self.name}" if self.name else "on the Ray of this machine, or one started here"
        )


def typed(on: str | None, workers: int | None) -> Place | None:
    """The place that `--on` names, which answers now; None is this machine. A Ray without an address takes
    RAY_ADDRESS, as Ray itself does.

    Raises UsageError for another word, a missing package, or --workers beside it; PartialError where no
    Ray or Slurm answers.
    """
    engine, has_name, name = ("local" if on is None else on).partition("=")
    if engine == "local" and not has_name:
        return None
    if engine not in ("ray", "slurm") or (has_name and not name):
        raise UsageError("--on", FORMS, on or "no word", "leave it out to train on this machine")
    place = Place("slurm", name or None)
    if engine == "ray":
        known = os.environ.get("RAY_ADDRESS", "")
        place = Place("ray", name or (known if ":" in known else None))
    if workers is not None:
        raise UsageError(
            "--workers",
            "a number of processes on this machine, or --on",
            f"both --workers {workers} and --on {place}",
            f"leave one out: {engine} decides how many arms it trains at once",
        )
    _check(place)
    return place


def _check(place: Place) -> None:
    package = PACKAGES[place.engine]
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f"--on {place}",
            f"the package {package}",
            "no such package",
            f"pip install 'dpaudit[{place.engine}]'",
        )
    if place.engine == "slurm":
        limit(place)
    elif place.name is not None:
        _require_answer(place)


def _require_answer(place: Place) -> None:
    """Raises PartialError unless somebody listens at the address; Ray itself would wait for a minute."""
    assert place.name is not None
    host, _, port = place.name.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--on {place}",
            "an address: HOST:PORT, or ray://HOST:PORT for a Ray client",
            "another text",
            "`ray status` on the cluster shows its address",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except (OSError, UnicodeError):
        raise no_ray(place) from None


def no_ray(place: Place) -> PartialError:
    """The error for a Ray that does not answer."""
    return PartialError(
        f"--on {place}: expected a Ray that answers, got none; start it (`ray start --head`) or correct the "
        f"address, then type the command again"
    )


def limit(place: Place) -> int | None:
    """The longest time of a job in a Slurm's partition, in minutes; None: no limit.

    Raises PartialError where no Slurm answers, UsageError for a partition that it has not.
    """
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        raise _no_slurm(place, "no sbatch and sinfo on this machine")
    try:
        listed = subprocess.run(
            ["sinfo", "--noheader", "--format=%P|%l"],
            capture_output=True,
            text=True,
            timeout=LIST,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        raise _no_slurm(place, "an error of sinfo") from None
    return longest(place, listed)


def longest(place: Place, listed: str) -> int | None:
    """`limit` from what sinfo lists: NAME|TIME, the default partition with a star."""
    rows = [line.strip().rpartition("|")[::2] for line in listed.splitlines() if "|" in line]
    known = {name.rstrip("*"): time for name, time in rows}
    default = next((name.rstrip("*") for name, _ in rows if name.endswith("*")), None)
    chosen = place.name or default
    if chosen is None:
        raise UsageError(f"--on {place}", "a partition", "a Slurm without a default one", _ones(known))
    if chosen not in known:
        raise UsageError(f"--on {place}", "a partition of this Slurm", "an unknown one", _ones(known))
    return minutes(known[chosen])


def _ones(known: dict[str, str]) -> str:
    return f"name one: {', '.join(sorted(known)) or 'it lists none'}"


def _no_slurm(place: Place, got: str) -> PartialError:
    return PartialError(
        f"--on {place}: expected a Slurm that answers, got {got}; type the command on a machine that "
        f"submits to the cluster"
    )


def minutes(text: str) -> int | None:
    """Slurm's D-HH:MM:SS, HH:MM:SS or MM:SS in whole minutes, at least 1; None for "infinite"."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in parts) or not 2 <= len(parts) <= 3:
        return None
    hours, *rest = map(int, parts if len(parts) == 3 else ["0", *parts])
    return max(1, (int(days or 0) * 24 + hours) * 60 + rest[0])
