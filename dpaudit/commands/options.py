"""The options that several commands share, each with its help."""

from pathlib import Path
from typing import Annotated

import typer

SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help="A name of suites/, or a YAML file.")]
SuiteOption = Annotated[str, typer.Option("--suite", help="A name of suites/, or a YAML file.")]
EpsOption = Annotated[
    str | None,
    typer.Option("--eps", metavar="1,4,8", help="One private arm for each epsilon; inf is there anyway."),
]
DpoOption = Annotated[
    str | None, typer.Option("--dpo", metavar="LOSSES", help="DPO arms, such as sigmoid,simpo.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="DIR", help="The base: a folder or a hub id.")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="DATA", help="Dialogues: JSONL, JSON, CSV, Parquet, a folder or a hub id."
    ),
]
RowsOption = Annotated[
    str | None, typer.Option("--rows", metavar="A:B", help="Rows A to B of the data, from 0, B left out.")
]
TextOption = Annotated[
    str | None, typer.Option("--text", metavar="DATA", help="Plain text for continued pretraining.")
]
UnitOption = Annotated[
    str | None,
    typer.Option("--unit", help="Whose presence is hidden: record, patient, pair; label hides preferences."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Fixes corpus, split, initialisation and decoding.")]
InsecureOption = Annotated[
    int | None,
    typer.Option("--insecure-seed", help="Fixes coins, sampling and noise too: then no epsilon is claimed."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Changes a key of the suite; may be given again."),
]
LaterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Asks the finished run by another key of this part of its suite, marked as added later.",
    ),
]
TaskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task", metavar="NAME[=FILE]", help="One more benchmark, with its items; may be given again."
    ),
]
RubricOption = Annotated[
    str | None, typer.Option("--rubric", metavar="NAME", help="Another rubric of judges/, or a YAML file.")
]
BaselineOption = Annotated[bool, typer.Option("--no-baseline", help="Leave out the non-private arm.")]
ArmOption = Annotated[
    list[str] | None, typer.Option("--arm", metavar="ARM", help="Only this arm; may be given again.")
]
EgressOption = Annotated[
    list[str] | None,
    typer.Option("--allow-egress", metavar="HOST", help="An endpoint that answers may be sent to."),
]
RecipeOption = Annotated[
    list[str] | None, typer.Option("--recipe", metavar="NAME", help="Only this recipe; may be given again.")
]
StageOption = Annotated[
    str | None,
    typer.Option(
        "--stage", metavar="STAGES", help="Stages beside DPO: cpt, sft or cpt,sft; none for DPO alone."
    ),
]
ChainOption = Annotated[
    bool | None,
    typer.Option(
        "--chain/--no-chain", help="Each stage goes on from the one before, or all start at the base."
    ),
]
StartOption = Annotated[
    str | None,
    typer.Option("--start", metavar="DIR", help="An adapter to go on from; its ledger is composed."),
]
PublicOption = Annotated[
    bool, typer.Option("--assume-public", help="Take a start without a ledger for public; the page says so.")
]
DeltaOption = Annotated[
    bool, typer.Option("--allow-delta", help="Let delta be 1 / number of units or above.")
]
TwinOption = Annotated[
    bool, typer.Option("--twin", help="Train the non-private SFT arm without canaries too: what they cost.")
]
SeedsOption = Annotated[
    int | None, typer.Option("--seeds", metavar="K", min=1, help="Train every arm K times.")
]
MicroBatchOption = Annotated[
    int | None,
    typer.Option(
        "--micro-batch", metavar="N", min=1, help="Sequences in one forward pass; the step stays the same."
    ),
]
DryOption = Annotated[
    bool, typer.Option("--dry-run", help="Show noise, steps and memory of every arm, and train nothing.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=1, help="Arms trained at once; without it chosen by model and machine."
    ),
]
ShadowsOption = Annotated[
    int | None,
    typer.Option(
        "--shadows",
        metavar="K",
        help="Train K shadow models of each arm first, for the recipes that need them; even.",
    ),
]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="A run; without it the one used last.")
]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="The folder that holds runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
ConfidenceOption = Annotated[
    float, typer.Option("--confidence", metavar="C", help="Probability that the bound holds.")
]
RateOption = Annotated[
    float | None, typer.Option("--rate", metavar="Q", help="Probability of a unit to be in a step.")
]
StepsOption = Annotated[int | None, typer.Option("--steps", metavar="T", help="Number of steps.")]
ClaimOption = Annotated[
    str | None,
    typer.Option(
        "--claim",
        metavar="eps=E,delta=D,unit=U,relation=R",
        help="The claim, whole: eps=3,delta=1e-5,unit=record,relation=add_or_remove.",
    ),
]
CommitmentOption = Annotated[
    str | None,
    typer.Option(
        "--commitment",
        metavar="HEX",
        help="What plant or train said to note down: exit code 1 if it differs.",
    ),
]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="The key that `dpaudit plant` wrote.")
]
