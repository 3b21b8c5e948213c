"""The options that several commands share, each with its help, and how a dataclass becomes options."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from dpaudit import content
from dpaudit.storage import run_store


def suites() -> list[str]:
    return sorted(content.listing("suites"))


def _rubrics() -> list[str]:
    return sorted(content.listing("judges"))


def _recipes() -> list[str]:
    return sorted(content.listing("attacks"))


def _run_names() -> list[str]:
    return [run.name for run in run_store.existing()]


SuiteName = Annotated[
    str,
    typer.Argument(metavar="SUITE", help="A name of suites/, or a YAML file.", autocompletion=suites),
]
Suite = Annotated[
    str | None,
    typer.Option(
        "--suite",
        help="A name of suites/, or a YAML file; default demo, of a repeat that of its run.",
        autocompletion=suites,
    ),
]
Model = Annotated[str | None, typer.Option("--model", metavar="DIR", help="The base: a folder or a hub id.")]
Public = Annotated[
    bool,
    typer.Option(
        "--public", help="The edition without any figure computed from private records without noise."
    ),
]
Lang = Annotated[
    str,
    typer.Option(
        "--lang",
        metavar="LANG",
        help="Language of what is shown: en, or zh (Chinese, a page beside the English one).",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Fixes corpus, split, initialisation and decoding.")]
SeedOrNone = Annotated[
    int | None,
    typer.Option(
        "--seed",
        help="Fixes corpus, split, initialisation and decoding; default 0, of a repeat that of its run.",
    ),
]
InsecureSeed = Annotated[
    int | None,
    typer.Option(
        "--insecure-seed",
        help="Fixes what must be secret too: who is in (the coins), sampling, noise; no epsilon is claimed.",
    ),
]
Later = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Changes a key of this part of the suite for the finished run; marked as added later.",
    ),
]
Evaluated = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Changes how benchmarks are asked, marked as added later: evaluation.fewshot=5 (worked "
        "examples), evaluation.chat_template=false, evaluation.limit=200 (items), evaluation.margin=0.02 "
        "(the loss that matters), evaluation.batch=16. In a suite they stand under evaluation. Beside "
        "--task, fewshot, chat_template and limit are of the tasks typed alone.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task", metavar="NAME[=FILE]", help="One more benchmark, with its items; may be given again."
    ),
]
Rubric = Annotated[
    str | None,
    typer.Option(
        "--rubric",
        metavar="NAME",
        help="Another rubric of judges/, or a YAML file. A run keeps it for later calls.",
        autocompletion=_rubrics,
    ),
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        "--arm",
        metavar="ARM",
        help="Only this arm (one trained adapter, such as sft-eps4); may be given again.",
    ),
]
Egress = Annotated[
    list[str] | None,
    typer.Option("--allow-egress", metavar="HOST", help="A host that texts may be sent to."),
]
Items = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-egress", metavar="HOST", help="A hub that lm-eval's items may be fetched from beforehand."
    ),
]
RunEgress = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-egress",
        metavar="HOST",
        help="A host that texts may be sent to, or a hub that lm-eval's items may be fetched from.",
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens-total",
        metavar="N",
        min=1,
        help="Stop before a server has taken more than this many tokens in all; exit code 3 then.",
    ),
]
JudgedPrompts = Annotated[
    int | None,
    typer.Option(
        "--prompts", metavar="N", min=1, help="How many prompts are judged. A run keeps it for later calls."
    ),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="REF",
        help="What the arms are compared with: inf (without noise), base, start, sft, rung, or an arm; may "
        "be given again. A run keeps it for later calls. With --answers: the second file.",
    ),
]
JudgeDryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the number of calls and tokens, and ask nobody.")
]
Recipes = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe", metavar="NAME", help="Only this recipe; may be given again.", autocompletion=_recipes
    ),
]
MicroBatch = Annotated[
    int | None,
    typer.Option(
        "--micro-batch", metavar="N", min=1, help="Sequences in one forward pass; the step stays the same."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what `dpaudit plan` shows, and train nothing."),
]
NoMeasure = Annotated[
    bool, typer.Option("--no-measure", help="Of a plan or --dry-run: time no passes on this machine.")
]
Check = Annotated[
    bool,
    typer.Option(
        "--check", help="Exit code 1 if a claim is refuted, else 4 if one had no power or the judge is unfit."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Adapters trained at once; default: chosen by model and machine.",
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ENGINE",
        help="Where adapters are trained: local (the default), ray[=ADDRESS] or slurm[=PARTITION].",
    ),
]
Shadows = Annotated[
    int | None,
    typer.Option(
        "--shadows",
        metavar="K",
        help="First train K shadow models of each arm (an even number): trainings on random halves, for the "
        "recipes that compare with such.",
    ),
]
Run = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="NAME", help="A run; default: the run used last.", autocompletion=_run_names
    ),
]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="The folder that holds runs.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Claims = Annotated[
    list[str] | None,
    typer.Option(
        "--claim",
        metavar="eps=E,delta=D,unit=U,relation=R",
        help="The complete claim: eps=3,delta=1e-5,unit=record,relation=add_or_remove; may be given again.",
    ),
]
Commitment = Annotated[
    str | None,
    typer.Option(
        "--commitment",
        metavar="HEX",
        help="The commitment that plant or train printed; exit code 1 if it differs.",
    ),
]
ClaimedDelta = Annotated[float, typer.Option("--delta", metavar="D", help="The claim's delta.")]
Confidence = Annotated[
    float, typer.Option("--confidence", metavar="C", help="Probability that the bound holds.")
]
_RATE = typer.Option("--rate", metavar="Q", help="Probability that a unit is in a step.")
_STEPS = typer.Option("--steps", metavar="T", help="Number of steps.")
Rate = Annotated[float, _RATE]
RateOrNone = Annotated[float | None, _RATE]
Steps = Annotated[int, _STEPS]
StepsOrNone = Annotated[int | None, _STEPS]


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of its dataclass parameters.

    Typer reads options from a signature alone: so several commands share what stands in a dataclass once.
    """
    hints = get_type_hints(command, include_extras=True)
    kinds: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @wraps(command)
    def called(**typed: Any) -> None:
        for name, kind in kinds.items():
            typed[name] = kind(**{field.name: typed.pop(field.name) for field in fields(kind)})
        command(**typed)

    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        source = kinds.get(name)
        wanted = inspect.signature(source).parameters.values() if source else [parameter]
        options += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in wanted]
    vars(called)["__signature__"] = inspect.Signature(options)
    return called
