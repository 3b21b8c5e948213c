"""The command line: its commands, and the border where every error becomes a line on stderr and a code."""

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dpaudit import __version__, terminal
from dpaudit.commands import (
    attack,
    calculators,
    doctor,
    generate,
    init,
    judge,
    lab,
    mistakes,
    outside,
    plan,
    reporting,
    runs,
    scorecard,
    shipped,
)
from dpaudit.commands.groups import EXAMPLES, SETTINGS, show_help
from dpaudit.errors import GuardError, Mistakes, PartialError, UsageError
from dpaudit.system import egress, faults, interrupts, libraries, progress
from dpaudit.training import ranks

READER_LEFT = 141  # the exit code of a shell after SIGPIPE
COMPLETION = ("--install-completion", "--show-completion")  # these words of typer end by SystemExit
ASKED_TO_COMPLETE = "_DPAUDIT_COMPLETE"  # set by the shell where a word is to be completed
QUIET = "--quiet"
COMMANDS: dict[str, Any] = {  # a function or a group, in the order of the work
    "demo": lab.demo,
    "init": init.init,
    "plan": plan.plan,
    "run": lab.run,
    "train": lab.train,
    "attack": attack.app,
    "eval": lab.evaluate,
    "judge": judge.judge_app,
    "scorecard": scorecard.scorecard,
    "report": reporting.app,
    "plant": outside.plant,
    "verify": outside.verify,
    "account": calculators.account,
    "bound": calculators.bound_app,
    "merge": runs.merge,
    "generate": generate.generate,
    "doctor": doctor.doctor,
    "ls": runs.list_runs,
    "show": runs.show,
    "rm": runs.remove,
    "list": shipped.list_shipped,
}


class InOrder(TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:
        return sorted(self.commands, key=list(COMMANDS).index)


app = typer.Typer(
    cls=InOrder,
    help="Verifies the differential-privacy claim of a fine-tuned language model.",
    **SETTINGS | {"add_completion": True},
)
for name, command in COMMANDS.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _version(wanted: bool) -> None:
    if wanted:
        terminal.echo(f"dpaudit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(QUIET, help="Of any command: no progress on stderr. What must be known is still told."),
    ] = False,
) -> None:
    """Verifies the differential-privacy claim of a fine-tuned language model."""
    if ranks.count() > 1 and context.invoked_subcommand != "train":
        raise UsageError(
            "torchrun",
            "dpaudit train, the only command that several processes share",
            f"dpaudit {context.invoked_subcommand or ''}".strip(),
            "type it without torchrun",
        )
    show_help(context)


def main() -> None:
    """The entry point: runs the command and turns its end into an exit code, which is never a verdict by
    accident.
    """
    libraries.hush()
    if ranks.leads():
        libraries.announce(lambda line: terminal.echo(line, error=True))
    alone = ranks.count() == 1
    if not alone:
        interrupts.end_with_parent(os.getppid())
    listening = interrupts.heard() if alone else nullcontext()  # torchrun ends the other processes by SIGTERM
    with listening:
        code = _ended()
        if code == interrupts.CODE:
            _failed(["interrupted; type the same command again"], interrupts.CODE)
        if not code:
            ranks.leave()
        atexit.register(interrupts.hear_no_more)  # a late signal changes no exit code
    sys.exit(code)


def _ended() -> int:
    """Runs the command and returns its exit code; prints its failure."""
    try:
        _check_words(sys.argv[1:])
        words = [word for word in sys.argv[1:] if word != QUIET]  # of any command, wherever it stands
        progress.show_tasks(QUIET not in sys.argv)
        with egress.closed():
            return int(app(words, prog_name="dpaudit", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        return interrupts.CODE
    except SystemExit as ended:
        return int(ended.code or 0) if _completes() else _fault_of_ours(ended)
    # the outermost border: a panic of Rust and an exit of a library are no Exception
    except BaseException as error:  # noqa: BLE001
        if interrupts.came() and not isinstance(error, PartialError):  # a PartialError says what is left
            return interrupts.CODE
        explained = _explained(error)
        return _failed(*explained) if explained else _fault_of_ours(error)


def _completes() -> bool:
    return ASKED_TO_COMPLETE in os.environ or any(word in COMPLETION for word in sys.argv)


def _check_words(words: list[str]) -> None:
    """Raises UsageError for bytes that are no text: no JSON of a run could name such a file."""
    for word in words:
        if not word.isascii() and any("\udc80" <= character <= "\udcff" for character in word):
            raise UsageError(
                word, "arguments in UTF-8, also file names", "bytes that are not UTF-8", "rename the file"
            )


def _explained(error: BaseException) -> tuple[list[str], int] | None:
    """The lines and the exit code of an error that a user can mend; None for any other."""
    if type(error).__name__ == "MissingParameter":
        return [_missing(error)], UsageError.exit_code
    if isinstance(error, typer.TyperException):  # an unknown command or option
        return [error.format_message()], error.exit_code
    if isinstance(error, Mistakes):
        return list(map(str, error.errors)), error.exit_code
    if isinstance(error, UsageError | PartialError | GuardError):
        return [str(error)], error.exit_code
    mistake = mistakes.of(error)
    return None if mistake is None else ([str(mistake)], mistake.exit_code)


def _missing(error: Any) -> str:
    """The missing parameter, with a complete command as an example."""
    typed = error.ctx.command_path
    return f"{error.format_message().rstrip('.')}; for example: {EXAMPLES.get(typed, f'{typed} --help')}"


def _fault_of_ours(error: BaseException) -> int:
    """Writes a log and prints a line that names it; of several processes only the first that fails does."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        return READER_LEFT  # raised by Typer while it prints help
    ranks.fail(
        lambda: terminal.echo(
            f"dpaudit: {terminal.visible(faults.message(faults.report(error)))}", error=True
        )
    )
    return faults.EXIT_CODE


def _failed(messages: Sequence[str], code: int) -> int:
    """Prints a line for each message, once however many processes fail with it, and returns the code."""
    lines = [terminal.visible(f"dpaudit: {' '.join(message.split())}") for message in messages]

    def tell() -> None:
        for line in lines:
            terminal.echo(line, error=True)

    ranks.fail(tell)
    return code


if __name__ == "__main__":
    main()
