"""`dpaudit verify --observed`: claims about a training that `dpaudit.observe` watched."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from dpaudit.commands.output import show
from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.storage import custody
from dpaudit.system.progress import Progress

OWN = ("observed", "mechanism", "key", "out", "lang")  # options that go with a record
FAILED = 1  # another commitment than was noted down


def verify(given: Mapping[str, Any], said: Sequence[str], commitment: str | None, as_json: bool) -> None:
    """Prints the verdict on each claim that was said, and exits with its code. `given` are the options."""
    from dpaudit.evidence import mechanisms
    from dpaudit.stages import translated, verify_folder, verify_observed
    from dpaudit.stages.verify import exit_code

    _check_options(given, said, mechanisms.EXAMPLE)
    is_chinese = translated.language(given["lang"]) == "zh"
    request = verify_observed.Request(
        given["observed"],
        given["key"],
        tuple(claims.parse(text) for text in said),
        mechanisms.parse(given["mechanism"]),
        given["out"] or verify_folder.OUT,
        commitment,
    )
    checked = verify_observed.check(request)
    if checked.noted_before == custody.ANOTHER:
        show({"commitment": checked.key.commitment, "noted_before": checked.noted_before}, as_json)
        raise typer.Exit(FAILED)
    found = verify_observed.run(checked, Progress())
    page = request.out / verify_folder.PAGE
    if is_chinese:
        page = translated.write_beside(page, Progress())
    whole = {**found.to_json(), "page": str(page)}
    show(whole if as_json else verify_observed.summary(found, page), as_json)
    raise typer.Exit(exit_code([answer.verdict for answer in found.answers]))


def _check_options(given: Mapping[str, Any], said: Sequence[str], example: str) -> None:
    """Raises UsageError for an option that is lacking, and for one of another kind of audit."""
    needed = {"--observed": given["observed"], "--key": given["key"], "--claim": said}
    needed["--mechanism"] = given["mechanism"]
    if lacking := [name for name, value in needed.items() if not value]:
        raise UsageError(
            "dpaudit verify",
            "--observed FILE, --key FILE, --claim and --mechanism",
            f"no {lacking[0]}",
            f"for example {example}",
        )
    others = [name for name, value in given.items() if name not in OWN and value not in (None, False, [])]
    if others:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise UsageError(
            "--observed", "a record alone", names, "test a model in a call and a folder of its own"
        )
