"""Whether all results of a run are as its stages wrote them: for readers of many, such as the page, which take an altered one for none."""

from pathlib import PurePosixPath

from dpaudit.errors import Gathering
from dpaudit.rundir import RunDir
from dpaudit.stages import custody
from dpaudit.suite import Plan

RESULTS = ("attack", "audit", "evaluate", "judge")


def require(run_dir: RunDir, plan: Plan) -> None:
    """Raises UsageError, or Mistakes for several at once, where the run, an arm or a result is not what was written.

    What was made from an earlier state is for its reader to leave out.
    """
    custody.require(run_dir, plan)
    told = Gathering()
    for file in results(run_dir):
        told.passes(_require, run_dir, file)
    told.end()


def results(run_dir: RunDir) -> list[str]:
    """The files that stages wrote about arms, beside what of them is of libraries' or of a killed command's."""
    files = [file for folder in RESULTS for file in sorted(run_dir.file(folder).rglob("*")) if file.is_file()]
    parts = [
        (file.relative_to(run_dir.path).as_posix(), file.relative_to(run_dir.path).parts) for file in files
    ]
    return [
        name
        for name, within in parts
        if "adapter" not in within and not any(p.startswith(".") for p in within)
    ]


def _require(run_dir: RunDir, file: str) -> None:
    if file.endswith(".parquet"):
        from dpaudit.stages import scores  # it loads NumPy

        scores.read_file(run_dir, file)
    elif file.endswith(".jsonl"):
        run_dir.require_sealed_lines(file)
    elif file.endswith(".json"):
        found = run_dir.read_json(file)
        if file.endswith("/membership.json"):  # of a shadow model
            custody.require_files(
                run_dir, str(PurePosixPath(file).parent), found["files"], {PurePosixPath(file).name}
            )
