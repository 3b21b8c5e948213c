"""Whether all results of a run are as its stages wrote them: for readers such as the page."""

from pathlib import PurePosixPath

from dpaudit.errors import Gathering, UsageError
from dpaudit.stages.integrity import custody
from dpaudit.storage.custody import sidecar
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import require_sealed
from dpaudit.suite.plan import Plan

KINDS = (".json", ".jsonl", ".parquet", ".html")
RESULTS = ("attack", "audit", "evaluate", "judge", "report")


def require(run_dir: RunDir, plan: Plan) -> None:
    """Raises UsageError, or Mistakes for several at once, where the run, an arm or a result is not what was
    written.

    Stale results pass: their readers leave them out.
    """
    custody.require(run_dir, plan)
    mistakes = Gathering()
    for error in faults(run_dir).values():
        mistakes.add(error)
    mistakes.end()


def faults(run_dir: RunDir) -> dict[str, UsageError]:
    """The results that are not what was written, each with its error, in the order of `results`."""
    found = {}
    for file in results(run_dir):
        try:
            _require(run_dir, file)
        except UsageError as error:
            found[file] = error
    return found


def results(run_dir: RunDir) -> list[str]:
    """The files that stages wrote about arms, without files of libraries and of killed commands."""
    paths = [file for folder in RESULTS for file in sorted(run_dir.file(folder).rglob("*"))]
    parts = {file: file.relative_to(run_dir.path).parts for file in paths}
    return [
        "/".join(within)
        for file, within in parts.items()
        if (file.is_symlink() or not file.is_dir() or file.suffix in KINDS)
        and "adapter" not in within
        and not any(part.startswith(".") for part in within)
    ]


def _require(run_dir: RunDir, file: str) -> None:
    path = run_dir.file(file)
    # a folder behind a link would be read elsewhere without a check here
    if path.is_symlink() or not path.is_file():
        got = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a special file"
        raise UsageError(
            str(path), "a file that this run wrote", got, "move it away, and put the file in its place"
        )
    if file.endswith(".parquet"):
        from dpaudit.stages.attack import scores  # it loads NumPy

        scores.require_file(run_dir, file)
    elif file.endswith((".jsonl", ".html")):
        require_sealed(run_dir, file)
    elif file.endswith(".json"):
        content = run_dir.read_json(file)
        whole = file.removesuffix(sidecar(""))
        is_page_gone = file.startswith("report/") and not run_dir.file(whole).exists()
        if whole != file and not is_page_gone:  # `report` writes a page again that is gone
            require_sealed(run_dir, whole)
        if file.endswith("/membership.json"):  # of a shadow model
            custody.require_files(
                run_dir, str(PurePosixPath(file).parent), content["files"], {PurePosixPath(file).name}
            )
