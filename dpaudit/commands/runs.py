"""What is done with runs: `ls` lists them, `show` opens one, `rm` removes one, `merge` makes a model
of an arm."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dpaudit.commands import options, output, overview
from dpaudit.commands.groups import EXAMPLES
from dpaudit.errors import UsageError
from dpaudit.pipeline import opening, plans
from dpaudit.privacy import ledger
from dpaudit.stages.integrity import siblings
from dpaudit.storage import exclusive, run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.whole_files import left_of
from dpaudit.system.progress import Progress


def list_runs(runs: options.Runs = run_store.RUNS, as_json: options.Json = False) -> None:
    """List the runs, the one used last at the end; exit code 2 if one cannot be read or was altered."""
    rows = [overview.run_row(run_dir) for run_dir in run_store.existing(runs)]
    output.show({"runs": rows, "caveat": overview.caveat_of(rows)}, as_json)
    if any(row["suite"] is None for row in rows):
        raise typer.Exit(UsageError.exit_code)


def show(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run; default: the run used last.")
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", help="An adapter folder: prints which arm of a run it is."),
    ] = None,
    named: options.Run = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Show a run: its plan, its arms, which outputs are current, its page."""
    if None not in (run, named) and run != named:
        raise UsageError("dpaudit show", "one run", f"{run} and --run {named}", f"dpaudit show {run}")
    run = run or named
    if adapter is not None:
        from dpaudit.stages.integrity import custody as chain

        among = run_store.existing(runs) if run is None else [run_store.find(run, runs)]
        origins = chain.origins(adapter, among)
        output.show({"adapter": str(adapter), "sha256": origins[0]["sha256"], "origins": origins}, as_json)
        return
    run_dir, plan = opening.opened(run, runs)
    output.show_of_run(run_dir, plan, overview.details(run_dir, plan), as_json)


def remove(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, by its full name.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without, only what would go is shown.")
    ] = False,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Remove a run: adapters, coins, ledgers, pages; exit code 2 without --yes."""
    run_dir = _meant(run, runs)
    facts = _facts(run_dir)
    if yes:
        exclusive.remove_run(run_dir)
    output.show({"removed" if yes else "would_remove": run_dir.name} | facts, as_json)
    if not yes:
        raise UsageError(
            f"dpaudit rm {run}",
            "--yes, since the coins and the ledgers of a run cannot be made again",
            "no --yes",
            f"dpaudit rm {run} --yes",
        )


def _meant(run: str, runs: Path) -> RunDir:
    """The run that `rm` is to remove, which may be the rest of one whose removal was killed."""
    rest = RunDir(runs / run)
    if run == rest.name and not rest.path.exists() and left_of(rest.path):
        return rest
    run_dir = run_store.find(run, runs)
    if run_dir.name != Path(run).name:
        raise UsageError(f"dpaudit rm {run}", "a run's full name", run, f"dpaudit rm {run_dir.name}")
    if run_dir.path.is_symlink():
        there = run_dir.path.resolve()
        raise UsageError(
            str(run_dir.path),
            "a run's own folder",
            f"a link to {there}",
            f"type `dpaudit rm {there.name} --runs {there.parent}`, then remove the link",
        )
    return run_dir


def _facts(run_dir: RunDir) -> dict[str, Any]:
    """What a removal takes, and what other runs' pages no longer count."""
    folders = [run_dir.path] if run_dir.path.exists() else left_of(run_dir.path)
    inside = [path for folder in folders for path in folder.rglob("*")]
    files = [path for path in inside if path.is_file() and not path.is_symlink()]
    links = [str(path) for path in inside if path.is_symlink()]
    trained = sorted(file.parent.name for file in run_dir.file("train").glob(f"[!.]*/{ledger.FILE}"))
    same_data = [other.name for other in siblings.on_same_data(run_dir)] if trained else []
    repeats = [*siblings.repeated(run_dir), *siblings.repeats_of(run_dir)]
    return {
        "megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 1),
        "trained": trained,
        "no_longer_in_the_composed_epsilon_of": same_data,
        "no_longer_in_one_family_with": repeats,
    } | ({"links_whose_targets_stay": links} if links else {})


@dataclass(frozen=True)
class Merged:
    """The options of `merge`."""

    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the model; must not exist yet.")
    ]
    arm: Annotated[
        str | None,
        typer.Option(
            "--arm", metavar="ARM", help="The arm of the run: one trained adapter, such as sft-eps4."
        ),
    ] = None
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", help="An adapter folder outside a run, in place of --arm."),
    ] = None
    model: options.Model = None
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32 or bfloat16; default: that of the base.")
    ] = None
    shard_size: Annotated[
        str, typer.Option("--shard-size", metavar="SIZE", help="Largest file of weights, such as 500MB.")
    ] = "2GB"
    assume_public: Annotated[
        bool,
        typer.Option("--assume-public", help="Treat an adapter without a ledger (privacy.json) as public."),
    ] = False
    ledger: Annotated[
        Literal["full", "public"],
        typer.Option(
            "--ledger",
            help="public: the claim goes into the folder, the ledger beside it; full: the ledger too.",
        ),
    ] = "public"


@options.spread
def merge(
    asked: Merged,
    run: options.Run = None,
    runs: options.Runs = run_store.RUNS,
    as_json: options.Json = False,
) -> None:
    """Merge an adapter into its base, and keep its ledger: the record of what it spent."""
    if (asked.arm is None) == (asked.adapter is None):
        raise UsageError(
            "dpaudit merge",
            "--arm of a run, or --adapter",
            "both options" if asked.arm else "neither option",
            f"for example: {EXAMPLES['dpaudit merge']}",
        )
    plans.fetch({"model.base": asked.model})
    output.show(_merged(asked, run, runs), as_json)


def _merged(asked: Merged, run: str | None, runs: Path) -> dict[str, Any]:
    from dpaudit.stages import report_public
    from dpaudit.stages.train import merge

    audited = None
    if asked.adapter is not None:
        source = merge.of_folder(asked.adapter, asked.model, asked.dtype, asked.assume_public)
    else:
        run_dir, plan = opening.opened(run, runs)
        source = merge.of_run(run_dir, plan, str(asked.arm), asked.model, asked.dtype)
        audited = report_public.audited(run_dir, plan, str(asked.arm))
    is_full = asked.ledger == "full"
    return merge.run(source, asked.out, asked.shard_size, Progress(), full=is_full, audited=audited)
