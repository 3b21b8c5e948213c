"""What all groups of commands share: their settings, what one without a command shows, whole examples."""

from typing import Any

import typer

from dpaudit import terminal
from dpaudit.errors import UsageError
from dpaudit.evidence import claims

SETTINGS: dict[str, Any] = {
    "invoke_without_command": True,
    "add_completion": False,
    "rich_markup_mode": None,
    # its tracebacks can show local variables, and those hold patients' texts
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
EXAMPLES = {  # a whole command for each that cannot do without an option
    "dpaudit init": "dpaudit init dialogues.jsonl",
    "dpaudit run": "dpaudit run demo",
    "dpaudit scorecard": "dpaudit scorecard answers.jsonl --reference reference.jsonl",
    "dpaudit plant": "dpaudit plant data.jsonl --out planted.jsonl --key key.json",
    "dpaudit verify": f"dpaudit verify --adapter DIR --key FILE {claims.EXAMPLE}",
    "dpaudit account": "dpaudit account --delta 1e-5 --sigma 1 --rate 0.01 --steps 1000",
    "dpaudit bound one-run": "dpaudit bound one-run --canaries 1000 --guesses 400 --correct 260 --delta 1e-5",
    "dpaudit bound scores": "dpaudit bound scores scores.csv --delta 1e-5",
    "dpaudit bound power": "dpaudit bound power --eps 8 --rate 0.01 --steps 1000 --delta 1e-5",
    "dpaudit generate": "dpaudit generate prompts.jsonl --adapter DIR --out answers.jsonl",
    "dpaudit merge": "dpaudit merge --arm sft-eps8 --out model",
}


def show_help(context: typer.Context) -> None:
    """Of a group that was typed alone, its help."""
    if context.invoked_subcommand is None:
        terminal.echo(context.get_help())


def has_command(context: typer.Context, *options: object) -> bool:
    """Whether a command of the group was typed. Raises UsageError where `options` of the group itself were
    too.
    """
    command, group = context.invoked_subcommand, context.command_path
    if command is not None and any(options):
        raise UsageError(
            group,
            f"options after the word {command}",
            "options before that word",
            f"{group} {command} OPTIONS",
        )
    return command is not None
