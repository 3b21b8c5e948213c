"""What to type where a file of a run is missing, altered or lost."""

from pathlib import Path

from dpaudit import content
from dpaudit.errors import UsageError
from dpaudit.storage.custody import RELEASE


def missing(path: Path, command: str = "") -> UsageError:
    """The error for an output that an earlier stage has not made; the stage is known from the path."""
    return UsageError(
        str(path), "a finished output", "no such file", f"type `{command or command_of(path)}` first"
    )


def of_run(command: str, run: str) -> str:
    """The command as it works on this run, whichever was used last; `dpaudit train` finds its run by the
    plan.
    """
    return command if command == "dpaudit train" or " --run " in command else f"{command} --run {run}"


def command_of(path: Path) -> str:
    """The command that makes an output at this path, of its run if the path begins there."""
    stages = {
        "train": "train",
        "attack": "attack mia",
        "audit": "attack mia",
        "evaluate": "eval",
        "judge": "judge",
        "report": "report html",
    }
    at = next((at for at, part in reversed(list(enumerate(path.parts))) if part in stages), None)
    stage = "train" if at is None else stages[path.parts[at]]
    if stage == "attack mia" and path.stem in content.listing("attacks"):
        stage = f"attack {content.load_yaml(content.find('attacks', path.stem)).get('kind', 'mia')}"
    if stage == "judge" and path.stem == "human":
        stage = "judge validate --human FILE"
    return of_run(f"dpaudit {stage}", path.parts[at - 1]) if at else f"dpaudit {stage}"


def way_out(run: Path, relative: str) -> str:
    """What to do about a file that is not what the run wrote there."""
    stage, _, rest = relative.partition("/")
    name = rest.partition("/")[0]
    if stage == "train" and name:
        return _of_arm(run, name)
    if stage == "attack" and "/shadows/" in relative:
        folder = run / Path(*Path(relative).parts[:4])
        return f"delete {folder} and type `dpaudit attack mia --run {run.name}` with --shadows again"
    if stage == "records" or relative.startswith("custody/records/"):
        return (
            "restore it and custody/records/ from one copy, or delete it and type `dpaudit run SUITE`, which "
            "writes it again as added later and notes that entries were lost"
        )
    if stage in ("attack", "audit", "evaluate", "judge", "report"):
        return f"delete it and type `{command_of(run / relative)}` again"
    if relative.startswith(("custody/results/", "custody/trained/")) or relative == RELEASE:
        return (
            "restore it from a copy, or delete it and type `dpaudit run SUITE`, which writes it again and "
            "notes that it was lost"
        )
    return f"restore it from a copy, or delete {run} to begin again: a second release on the same records"


def _of_arm(run: Path, name: str) -> str:
    folder = run / "train" / name
    if name.endswith(".partial"):
        return f"restore it, or delete {folder} to train that arm from its start"
    return (
        f"restore it from a copy, or delete {folder} and type `dpaudit train`: a second training on the same "
        f"records"
    )
