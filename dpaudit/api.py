"""The Python surface: what the command line does, for scripts and notebooks, with the same nouns.

A user's mistake is a `UsageError` (several at once: `Mistakes`), work that stopped half way a `PartialError`,
a guard that fired while training a `GuardError`. Their lines name options as the command line has them, and
never a training text. Nothing is printed: with `progress=True` bars and notes go to stderr, without it the
notes go to the logger `dpaudit` at level INFO. Nothing leaves the machine but to hosts of `allow_egress`, and
to the hub for a model that an argument names.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit import terminal
from dpaudit.errors import UsageError
from dpaudit.evidence import claims as typed_claims
from dpaudit.findings.declared import ClaimOfRun
from dpaudit.findings.observed import ObservedVerification
from dpaudit.findings.report import Report
from dpaudit.findings.verification import Verification
from dpaudit.pipeline import control as controls
from dpaudit.pipeline import later, opening, plans, sequence
from dpaudit.privacy.claim import Claim
from dpaudit.stages.audited import Audited, each
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system import egress, libraries
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.stages.verify import Checked  # it loads NumPy

LOG = logging.getLogger("dpaudit")
PathLike = str | Path


class _Logged(Progress):
    """Shows nothing; what would be said goes to the log."""

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def say(self, line: str) -> None:
        LOG.info("%s", terminal.visible(line))


@contextmanager
def _at_work(progress: bool) -> Iterator[Progress]:
    """What the border of the command line does: hubs are closed, useless notices of libraries are left
    out.
    """
    with warnings.catch_warnings(), egress.closed():
        libraries.hush()
        yield Progress() if progress else _Logged()


@dataclass(frozen=True)
class Run:
    """A run on disk: its trained arms and what was found of them. Every call reads what is there now, and
    raises UsageError for a file that is not as the run wrote it.
    """

    folder: RunDir

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        """The folder; `path / "train" / ARM / "adapter"` loads with PEFT."""
        return self.folder.path

    @property
    def plan(self) -> Plan:
        """What was asked for, with what was added later."""
        return opening.plan_of(self.folder)

    @property
    def commitment(self) -> str | None:
        """Hash of plan, recipes and coins, 64 hexadecimal digits: noted down before anybody sees the
        adapters, it shows later that nothing was exchanged.
        """
        return self.folder.read_json("corpus/manifest.json").get("commitment")

    def report(self) -> Report:
        """All that the page shows, as it is now; nothing is written. Epsilons are in nats, and `stages` tells
        what was not done. Holds figures from private records; `write_page(public=True)` has none.
        """
        from dpaudit.stages import report

        return report.present(self.folder, self.plan)

    def write_page(self, public: bool = False) -> Path:
        """The file of the page, written now; `public`: of the edition without any figure that was computed
        from private records without noise.
        """
        from dpaudit.stages import report, report_public

        with _at_work(progress=False) as quiet:
            if public:
                return report_public.run(self.folder, self.plan)[0]
            return report.run(self.folder, self.plan, quiet)

    def verify(self, arm: str | None = None, claim: Claim | str | None = None) -> tuple[ClaimOfRun, ...]:
        """Each claim of the run with its verdict: those of its suite and those added later, or else what the
        private arms were trained for. Needs `audit` first.

        `arm` and `claim` together add a claim, marked as added later; it stays. *No power* is never good
        news, and *not refuted* no proof.
        """
        from dpaudit.stages import declared

        added = typed_claims.typed(claim) if isinstance(claim, Claim) else claim
        plan = later.claim(self.folder, self.plan, arm, added)
        return declared.verdicts(self.folder, plan)


def load_run(name: str | None = None, *, runs: PathLike = run_store.RUNS) -> Run:
    """The run called `name` in the folder `runs`, in full or without its hash, or the one used last.

    Raises UsageError where there is none, and where a file that it rests on was altered.
    """
    run_dir, _ = opening.opened(name, Path(runs))
    return Run(run_dir)


def plan(
    suite: PathLike = "demo",
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    insecure_seed: int | None = None,
) -> Plan:
    """What a suite asks for, with other values of its dotted keys: `plan("demo", {"grid.epsilons": [1, 4]})`.

    `suite` is a shipped name or a YAML file. `seed` fixes corpus, split, initialisation and decoding;
    `insecure_seed` what must be secret too (coins, sampling, noise), and then no epsilon is claimed. Nothing
    is written or fetched. Raises UsageError for a key or a value that cannot be; what depends on models and
    data is checked by `train`, before a run exists.
    """
    with _at_work(progress=False):
        return plans.resolve(str(suite), dict(settings or {}), seed, insecure_seed)


def train(
    plan: Plan,
    *,
    runs: PathLike = run_store.RUNS,
    arms: Sequence[str] | None = None,
    workers: int = 1,
    micro_batch: int | None = None,
    allow_egress: Sequence[str] = (),
    progress: bool = False,
) -> Run:
    """The run of this plan, new or resumed, with its corpus drawn and its arms (or those named) trained.

    One worker trains in this process. More train side by side in fresh processes, which import your script:
    there the call has to stand under `if __name__ == "__main__"`. `micro_batch` sequences make one forward
    pass, which changes memory and no result. With the hub's host in `allow_egress`, the models, data and
    items that the plan names may be fetched.

    Raises UsageError or Mistakes before a run exists, PartialError where there is too little memory or
    another process is at work, GuardError where a step would not have been private.
    """
    with _at_work(progress) as shown:
        _allow_hub(plan, allow_egress)
        return Run(
            sequence.train(plan, Path(runs), shown, list(arms) if arms else None, workers, micro_batch)
        )


def _allow_hub(plan: Plan, hosts: Sequence[str]) -> None:
    """Fetches the plan's model and lets its data and items be asked for, where the hub's host was named."""
    from dpaudit.models import hub

    if hub.host() in hosts:
        data = plan.suite.data
        plans.allow_items(plan.suite, hosts)
        egress.allow(data.source, data.preference, data.text)
        hub.fetch(plan.suite.model.base, "model.base")


def audit(run: Run, *, workers: int = 1, progress: bool = False) -> Report:
    """What the page shows once every attack that the suite asks for has run: scores, then bounds and
    verdicts. What is current is not done again.

    Of the report, `audits` has what guesses of membership prove of each arm (`bound.epsilon_lower`, nats, at
    `bound.confidence`, beside `bound.ceiling`), `inside` what was seen of the training, `together.answers`
    one verdict a claim, `extraction`, `discoverable` and `pii` what came out. Scores are higher where an
    example is more likely a member.

    Raises UsageError where no arm is trained or a recipe was changed since, PartialError where another
    process is at work.
    """
    with _at_work(progress) as shown:
        sequence.attacks(run.folder, run.plan, shown, workers)
    return run.report()


def evaluate(run: Run, *, tasks: Sequence[str] = (), progress: bool = False) -> Report:
    """What the page shows once the benchmarks of the suite, and `tasks` (NAME or NAME=FILE; kept as added
    later), are measured on the base and all trained arms: `quality` and `comparisons`, paired by items.

    Raises UsageError where no arm is trained or a benchmark's items are not there.
    """
    from dpaudit.stages import evaluate as stage

    with _at_work(progress) as shown:
        stage.run(run.folder, later.evaluation(run.folder, run.plan, tasks, ()), shown)
    return run.report()


def judge(
    run: Run, *, rubric: str | None = None, allow_egress: Sequence[str] = (), progress: bool = False
) -> Report:
    """What the page shows once the suite's judge, or that of another `rubric` (kept as added later), has
    compared the arms: `judge` has its passport, and win rates only where the judge is fit.

    `allow_egress` names the host that prompts and answers may be sent to. Raises UsageError without a rubric,
    PartialError where the judge did not answer all.
    """
    from dpaudit.stages import judge as stage
    from dpaudit.stages.judge_replies import Way

    way = Way(tuple(allow_egress))
    with _at_work(progress) as shown:
        changed = {} if rubric is None else {"judging.rubric": rubric}
        asked = later.judging(run.folder, run.plan, changed, way)
        later.require_judging(run.name, asked)
        stage.run(run.folder, asked, shown, way=way)
    return run.report()


def verify(
    *,
    key: PathLike,
    claims: Sequence[Claim | str],
    adapter: PathLike | Sequence[PathLike] = (),
    model: str | None = None,
    endpoint: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    data: PathLike | None = None,
    out: PathLike = "verification",
    control: PathLike | None = None,
    train_control: bool = False,
    conformance: PathLike | None = None,
    commitment: str | None = None,
    send_real_rows: bool = False,
    allow_egress: Sequence[str] = (),
    progress: bool = False,
) -> Verification:
    """The verdict on each claim (`answers`, in their order) about a model that was trained elsewhere, from
    the canaries that `dpaudit plant` put into its data; `out` gets the page and verification.json.

    Name `adapter` (one folder or several), or `model` with its `base`, or a served `endpoint`. Claims are
    `Claim`s or as typed, "eps=3,delta=1e-5,unit=record,relation=add_or_remove"; `key` is the audit key, and
    `data` the planted file (of units held out, the original). `control` is an adapter trained likewise
    without noise; it, or `train_control`, tells whether the audit could have refuted: without, power is
    unknown and what is not refuted is *no power*. `commitment` is what `plant` printed. *Not refuted* is no
    proof, and presumes that nobody filtered the canaries out.

    Raises UsageError for what cannot be tested, for another key than `commitment` names, and where `out`
    holds another result; PartialError where a server gave no answer.
    """
    from dpaudit.stages import verify as stage
    from dpaudit.storage import custody

    request = stage.Request(
        _paired(adapter, Audited(None, model, endpoint, base, tuple(allow_egress), tokenizer), claims),
        Path(key),
        Path(out),
        _path(data),
        _path(conformance),
        commitment,
        send_real_rows,
    )
    with _at_work(progress) as shown:
        checked = stage.check(request)
        if checked.noted_before == custody.ANOTHER:
            raise UsageError(str(key), "the key whose commitment was noted down", "another key")
        made = _trained_control(checked, control, shown) if train_control else _path(control)
        return stage.run(checked, shown, made)


def verify_observed(
    *,
    observed: PathLike,
    key: PathLike,
    claims: Sequence[Claim | str],
    mechanism: str,
    out: PathLike = "verification",
    commitment: str | None = None,
    progress: bool = False,
) -> ObservedVerification:
    """The verdict on each claim about a training that `observe` watched; `out` gets the page and
    verification.json.

    `observed` is the record and `key` the key of one training; `mechanism` is what is claimed to have run, as
    typed: "sigma=0.92,rate=64/2148,steps=990". The trainer's own program kept the record, so slips are found,
    and no liar. Raises UsageError for files that do not belong together and where `out` holds another result.
    """
    from dpaudit.evidence import mechanisms
    from dpaudit.stages import verify_observed as stage
    from dpaudit.storage import custody

    made = tuple(c if isinstance(c, Claim) else typed_claims.parse(c) for c in _listed(claims))
    request = stage.Request(
        Path(observed), Path(key), made, mechanisms.parse(mechanism), Path(out), commitment
    )
    with _at_work(progress) as shown:
        checked = stage.check(request)
        if checked.noted_before == custody.ANOTHER:
            raise UsageError(str(key), "the key whose commitment was noted down", "another key")
        return stage.run(checked, shown)


def _listed(said: Sequence[Claim | str]) -> Sequence[Claim | str]:
    """Raises UsageError without a claim in a list."""
    if isinstance(said, str | Claim) or not said:
        got = "one claim that stands alone" if said else "no claim"
        raise UsageError("claims", "a list with a claim", got, f"for example {typed_claims.EXAMPLE}")
    return said


def _paired(
    adapter: PathLike | Sequence[PathLike], named: Audited, said: Sequence[Claim | str]
) -> tuple[tuple[Audited, Claim], ...]:
    """Every claim with the model that it is about. Raises UsageError without a claim."""
    listed = _listed(said)
    adapters = [adapter] if isinstance(adapter, str | Path) else adapter
    made = [claim if isinstance(claim, Claim) else typed_claims.parse(claim) for claim in listed]
    return typed_claims.paired(each([Path(one) for one in adapters], named), made)


def _trained_control(checked: "Checked", control: PathLike | None, shown: Progress) -> Path:
    """A control that is trained now. Raises UsageError where one is named as well, or none could help."""
    from dpaudit.stages import verify_control

    request = checked.request
    if control is not None:
        raise UsageError("train_control", "control or train_control", "both", "leave one out")
    verify_control.require_use(checked.key, [claim for _, claim in request.claims])
    named = request.models[0]
    base, wanted = None if named.endpoint else named.base, controls.Wanted()
    return controls.train(request.adapters, base, request.key_file, request.data, request.out, wanted, shown)


def _path(name: PathLike | None) -> Path | None:
    return None if name is None else Path(name)
