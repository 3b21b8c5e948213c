"""A page in Chinese, beside the English page that it is made from."""

from collections.abc import Callable
from pathlib import Path

from dpaudit.errors import UsageError
from dpaudit.storage import whole_files
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import write_sealed
from dpaudit.system.progress import Progress

LANGUAGES = ("en", "zh")


def language(typed: str) -> str:
    """The language that was typed. Raises UsageError for one that no page is written in."""
    if typed not in LANGUAGES:
        raise UsageError("--lang", "en or zh", typed or "no word", "leave it out for English")
    return typed


def beside(file: str) -> str:
    """The Chinese page of an English one: report/index.html -> report/index.zh.html."""
    return f"{file.removesuffix('.html')}.zh.html"


def write(run_dir: RunDir, file: str, progress: Progress) -> Path:
    """Writes the page `file` in Chinese beside it, and says how many sentences are English still."""
    write_sealed(run_dir, beside(file), _made(run_dir.file(file), progress), inputs=[file])
    return run_dir.file(beside(file))


def write_beside(page: Path, progress: Progress) -> Path:
    """As `write` does, of a page that is in no run."""
    path = page.with_name(beside(page.name))
    whole_files.write_text(path, _made(page, progress))
    return path


def _made(page: Path, progress: Progress) -> str:
    from dpaudit.page import chinese

    made = chinese.page(page.read_text(encoding="utf-8"))
    progress.say(chinese.foot(made.english))
    return made.text


def read_again(run_dir: RunDir, file: str, english: Callable[[], str]) -> list[str]:
    """The Chinese page of `file`, where there is one. Raises UsageError where it is not that of `english`."""
    from dpaudit.page import chinese

    page = run_dir.file(beside(file))
    if not page.is_file():
        return []
    if page.read_text(encoding="utf-8", errors="replace") != chinese.page(english()).text:
        public = " --public" if "public" in file else ""
        command = of_run(f"dpaudit report{public} --lang zh", run_dir.name)
        got = "one of another page"
        raise UsageError(str(page), "the English page in Chinese", got, f"type `{command}` and verify again")
    return [beside(file)]
