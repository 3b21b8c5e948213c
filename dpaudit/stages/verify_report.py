"""`report verify`: every figure of a report made again from the raw records of its run, and compared.

The work is done in a copy; nothing in the run changes. What a model said (scores, answers, replies) is read
and not asked for again.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from dpaudit.errors import UsageError
from dpaudit.evidence import release
from dpaudit.findings.finding import FORMAT, INPUTS
from dpaudit.findings.public import PublicReport
from dpaudit.findings.report import Report
from dpaudit.models import licence
from dpaudit.privacy.ledger import Ledger
from dpaudit.stages import (
    contaminated,
    evaluate,
    figures_again,
    json_trees,
    outputs,
    report,
    report_places,
    report_public,
    run_copy,
    translated,
)
from dpaudit.stages.audit import again
from dpaudit.stages.audit.baselines import ALIKE
from dpaudit.stages.audit.repeats import SUMMARY
from dpaudit.stages.integrity import custody
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.judge import JUDGEMENTS, PASSPORT
from dpaudit.stages.judge import SUMMARY as JUDGED
from dpaudit.stages.judge_tries import FILE as JUDGE_TRIES
from dpaudit.stages.page_age import COMMANDS, PUBLIC, changed
from dpaudit.stages.read_results import Reading
from dpaudit.stages.report import FIGURES, PAGE
from dpaudit.storage import custody as hashes
from dpaudit.storage.custody import sidecar
from dpaudit.storage.exclusive import scratch
from dpaudit.storage.remedies import missing, of_run
from dpaudit.storage.rundir import PLAN, RunDir, plain
from dpaudit.suite import declarations
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

PAGE_FILES = {file for page in COMMANDS for file in (page, sidecar(page))}
ACCOUNTANTS = 1e-3  # relative: another version of an accountant rounds on another grid
BESIDE = ("/run/same_data", "/run/repeated_by", "/run/repeats_gone", "/together/beside", "/beside")
STATES = (custody.SEALED, custody.UNSEALED, custody.GIVEN_UP)
Raw = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """The first thing that is not what it should be. `key` is a JSON pointer in `file`, `in_report` the same
    figure in report.json; empty where a whole file is meant.
    """

    file: str
    key: str
    expected: str
    got: str
    in_report: str = ""


@dataclass
class Checked:
    """What was looked at. `hash_checked` has what could not be made again, and why."""

    custody: str
    coins: str | None = None
    commitment: str | None = None
    figures: int = 0  # that were made again
    recomputed: list[str] = field(default_factory=list)  # files
    hash_checked: dict[str, str] = field(default_factory=dict)
    not_there: list[str] = field(default_factory=list)
    difference: Difference | None = None


class _DiffersError(Exception):
    def __init__(self, file: str, key: str, expected: str, got: str) -> None:
        super().__init__(file)
        self.difference = Difference(file, key, expected, got)


def check(run_dir: RunDir, commitment: str | None, progress: Progress) -> Checked:
    """Whether the report of a run is what its raw records give.

    Raises UsageError where there is no report, where it is of another version or out of date, and where the
    run's coins are not there.
    """
    _require_report(run_dir)
    Plan.from_json(run_dir.read_json(PLAN), str(run_dir.file(PLAN)))  # of this version
    found = Checked(custody.seal_state(run_dir))
    noted = custody.noted(run_dir, commitment) if commitment else None
    try:
        if noted is not None:
            found.commitment = "the same as noted before"
            if noted["noted_before"] == hashes.ANOTHER:
                raise _DiffersError("the commitment", "", str(commitment), noted["commitment"])
        _Check(run_dir, found, progress).everything()
    except _DiffersError as differs:
        found.difference = differs.difference
    return found


def _require_report(run_dir: RunDir) -> None:
    """Raises UsageError for no report, and for one of another version."""
    path = run_dir.file(FIGURES)
    if not path.is_file():
        raise missing(path)
    try:
        written = json.loads(path.read_bytes()).get(FORMAT)
    except (ValueError, RecursionError, AttributeError):
        return  # told as an altered file
    if written != Report.FORMAT:
        got = "no format" if written is None else f"{written!s:.60}"
        raise UsageError(
            f"{path}: {FORMAT}", Report.FORMAT, got, f"type `{_page(run_dir)}`, which writes it again"
        )


def _page(run_dir: RunDir, file: str = FIGURES) -> str:
    return of_run(COMMANDS.get(file, COMMANDS[PAGE]), run_dir.name)


class _Check:
    """One check: what the files hold, which of them are not as written, and the copy that is worked in."""

    def __init__(self, run_dir: RunDir, found: Checked, progress: Progress) -> None:
        self.run_dir, self.found, self.progress = run_dir, found, progress
        self.roots = [str(run_dir.path)]
        self.faults: dict[str, UsageError] = {}
        self.kept: dict[str, Raw] = {}

    def everything(self) -> None:
        from dpaudit.page import render

        run_dir = self.run_dir
        self._passes(lambda: custody.require_run(run_dir))
        plan = self._passes(lambda: declarations.plan_of(run_dir))
        self._passes(lambda: custody.require(run_dir, plan))
        self.faults = outputs.faults(run_dir)
        derived = [file for file in outputs.results(run_dir) if _is_derived(file)]
        for file, error in self.faults.items():
            path = run_dir.file(file)
            if path.is_symlink() or not path.is_file() or file not in {*derived, *PAGE_FILES}:
                raise self._failed(error)  # what cannot be read, or not be made again
        self.kept = {file: self._raw(file) for file in derived}
        if any(file.startswith("audit/") for file in derived):
            self._require_coins()
        self._ledgers(plan)
        with scratch() as place:
            self.roots.append(str(place / run_dir.name))
            made = [sidecar(JUDGEMENTS), JUDGEMENTS, *derived]
            copy = run_copy.of(run_dir, place, [*made, ALIKE])
            self._stages(copy, plan)
            public = self._report(copy, plan)
        self._read_page(PAGE, lambda: render.render(Report.read(self.run_dir, FIGURES)))
        self._read_page(PUBLIC, lambda: render.render_public(public))
        self._say_what_was_not_made_again(plan)

    # ---- parts

    def _require_coins(self) -> None:
        coins = self.run_dir.file(custody.COINS)
        if not coins.is_file():
            raise UsageError(
                str(coins),
                "the run's coins: no bound can be made again without them",
                "no such file",
                "restore the run's secret/ folder",
            )
        self._passes(lambda: again.require_raw(self.run_dir))
        self.found.coins = "those that were drawn"

    def _ledgers(self, plan: Plan) -> None:
        """What each ledger says was spent, by both accountants from its mechanism and steps."""
        for arm in plan.suite.grid.arms:
            trained = TrainedArm(self.run_dir, arm.name)
            if trained.is_there and self.run_dir.file(trained.ledger_file).is_file():
                ledger = self._passes(trained.ledger)
                for key, expected, got in _spent(ledger):
                    if not abs(expected - got) <= ACCOUNTANTS * abs(expected):
                        told = json_trees.told(expected), json_trees.told(got)
                        raise self._place(_DiffersError(trained.ledger_file, key, *told))
                    self.found.figures += 1
                self.found.recomputed.append(trained.ledger_file)

    def _stages(self, copy: RunDir, plan: Plan) -> None:
        audits = {
            file: raw
            for file, raw in self.kept.items()
            if file.startswith("audit/") and file != report.CLAIMS
        }
        stale = [file for file, raw in self.kept.items() if file != FIGURES and self._is_stale(raw)]
        makers = {**again.makers(copy, plan, audits), **figures_again.makers(copy, plan, self.kept)}
        with self.progress.task("making figures again", total=len(makers)) as advance:
            for file, make in makers.items():
                why = "out of date, as the page says" if file in stale else self._make(file, make)
                if why is None:
                    self._compare(file, copy.read_json(file), self.kept[file])
                    self.found.recomputed.append(file)
                if why is not None or file == JUDGED:  # which another file names by its bytes
                    self._copy(copy, file)
                if why is not None:
                    self.found.hash_checked[file] = why
                if file in self.faults:
                    raise self._failed(self.faults[file])
                advance(1)

    def _make(self, file: str, make: Callable[[], str | None]) -> str | None:
        try:
            return make()
        except UsageError as error:
            raise self._failed(error) from None
        except (LookupError, ValueError, TypeError):  # a whole file that was made up
            raise _DiffersError(file, "", "a file that can be made again", "another content") from None

    def _copy(self, copy: RunDir, file: str) -> None:
        copy.file(file).parent.mkdir(parents=True, exist_ok=True)
        copy.file(file).write_bytes(self.run_dir.file(file).read_bytes())

    def _report(self, copy: RunDir, plan: Plan) -> PublicReport:
        """Compares the report; what comes back is its public edition."""
        reading = Reading(copy)
        got = self.kept[FIGURES]
        made = _as_then(self._passes(lambda: report.assemble(reading, plan)), got)
        public = self._passes(lambda: report_public.of_report(reading, made, plan))
        expected = json.loads(json.dumps(made.to_json(), default=plain))
        now = self.run_dir.digests(reading.files)
        if FIGURES not in self.faults:
            self._require_young(FIGURES, got[INPUTS], now)
        named = got["run"].get("name") if isinstance(got.get("run"), dict) else None
        if FIGURES not in self.faults and named != made.run.name:
            raise self._out_of_date("one of this run under another name")
        self._compare(FIGURES, expected, got)
        self.found.recomputed.append(FIGURES)
        if FIGURES in self.faults:
            raise self._failed(self.faults[FIGURES])
        beside = sidecar(PUBLIC)
        if self.run_dir.file(PUBLIC).is_file() and not self._page_fault(PUBLIC):
            self._require_young(PUBLIC, self._passes(lambda: self.run_dir.recorded_inputs(beside)), now)
        return cast(PublicReport, public)

    def _require_young(self, page: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
        if other := changed(then, now):
            raise self._out_of_date(f"one made from an earlier state of {other[0]}", page)

    def _read_page(self, page: str, render: Callable[[], str]) -> None:
        """A page against what the report renders to."""
        from dpaudit.page import read_back

        if not self.run_dir.file(page).is_file():
            self.found.not_there.append(f"{page} ({COMMANDS[page]})")
            self.found.recomputed += translated.read_again(self.run_dir, page, lambda: self._passes(render))
            return
        html = self.run_dir.file(page).read_text(encoding="utf-8", errors="replace")
        made = self._passes(render)
        if html != made:
            if (apart := read_back.first_difference(made, html)) is not None:
                shown, text = apart
                raise _DiffersError(page, shown.key, repr(shown.text), f"{text!r:.80}")
            if not self._page_fault(page) and self.found.custody == custody.SEALED:
                raise self._out_of_date("a page that another version of dpaudit wrote", page)
            raise _DiffersError(page, "", "the page that the report renders to", "other words")
        if fault := self._page_fault(page):
            raise self._failed(fault)
        self.found.recomputed += [page, *translated.read_again(self.run_dir, page, lambda: made)]

    def _page_fault(self, page: str) -> UsageError | None:
        return next((self.faults[file] for file in (page, sidecar(page)) if file in self.faults), None)

    def _say_what_was_not_made_again(self, plan: Plan) -> None:
        found, there = self.found, self.kept
        for place, command in (("audit/", "attack"), ("evaluate/", "eval"), (JUDGED, "judge")):
            if not any(file.startswith(place) for file in there):
                found.not_there.append(f"{place} (dpaudit {command})")
        asked = "what the models said is kept and was not asked for again: models are not loaded here"
        if any(self.run_dir.file("attack").rglob("*.parquet")):
            found.hash_checked["attack/*/*.parquet (scores of every recipe)"] = asked
        if evaluate.SUMMARY in there:
            told = "evaluate/*.json (answers item by item, held-out bits, chance, figures without items)"
            found.hash_checked[told] = asked
            found.hash_checked["evaluate/tries.json"] = (
                "the figures of earlier settings, whose answers are gone"
            )
        if contaminated.FILE in there:
            why = "the texts of the items are not kept in the run"
            found.hash_checked["evaluate/contamination.json (which items stand in the training text)"] = why
        if JUDGED in there:
            found.hash_checked["judge/.replies, judge/answers.jsonl"] = asked
            found.hash_checked[JUDGE_TRIES] = "the history of passports"
        if self.run_dir.file(report.PEOPLE).is_file():
            found.hash_checked[report.PEOPLE] = "the table of people's verdicts is not kept in the run"
        why = "what the trainer's own program saw and measured while training ran"
        found.hash_checked["train/*/train.json, steps.jsonl (checks, curves, seconds, memory)"] = why

    # ---- tools

    def _compare(self, file: str, expected: Raw, got: Raw) -> None:
        made, held = (
            {key: value for key, value in tree.items() if key != INPUTS} for tree in (expected, got)
        )
        found = list(json_trees.differences(made, held))
        beside = [place for place in found if f"{place[0]}/".startswith(tuple(f"{at}/" for at in BESIDE))]
        if beside and file in (FIGURES, SUMMARY) and file not in self.faults:
            command = of_run("dpaudit attack mia", self.run_dir.name) if file == SUMMARY else None
            raise self._out_of_date("one of other runs beside this one", file, command)
        for at, wanted, there in found:
            told = json_trees.told(wanted), json_trees.told(there)
            raise self._place(_DiffersError(file, at, *told))
        self.found.figures += json_trees.leaves(made)

    def _place(self, differs: _DiffersError) -> _DiffersError:
        there = differs.difference
        key = report_places.of(self.kept.get(FIGURES, {}), there.file, there.key)
        differs.difference = Difference(there.file, there.key, there.expected, there.got, key)
        return differs

    def _out_of_date(self, got: str, file: str = FIGURES, command: str | None = None) -> UsageError:
        again = _page(self.run_dir, file)
        remedy = f"type `{command}` and `{again}`" if command else f"type `{again}`"
        where = str(self.run_dir.file(file))
        return UsageError(where, "a file made from the present results", got, f"{remedy} and verify again")

    def _is_stale(self, raw: Raw) -> bool:
        try:
            return bool(raw[INPUTS] != self.run_dir.digests(raw[INPUTS]))
        except (UsageError, ValueError):  # an input is gone, or is no place in a run
            return True

    def _raw(self, file: str) -> Raw:
        """What a result holds, as written or not; the stamp apart."""
        try:
            data = json.loads(self.run_dir.file(file).read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or not isinstance(data.setdefault(INPUTS, {}), dict):
            raise _DiffersError(file, "", "a JSON object as this run wrote it", "another content")
        return {key: value for key, value in data.items() if key != hashes.KEY}

    def _passes(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except UsageError as error:
            raise self._failed(error) from None

    def _failed(self, error: UsageError) -> _DiffersError:
        """The first line of an error, with places in the run and none in the copy."""
        first = getattr(error, "errors", (error,))[0]
        where, expected, got = first.where, first.expected, first.got
        for root in self.roots:
            where, expected, got = (part.replace(f"{root}/", "") for part in (where, expected, got))
        return _DiffersError(where, "", expected, got)


def _as_then(made: Report, held: Mapping[str, Any]) -> Report:
    """The report with what was known of seals and of the base's licence as it was written: key and base may
    be elsewhere by now.
    """
    base, stated = made.identity.base, json_trees.at(held, "identity", "base", "licence")
    if licence.folder_of(base.name) is None and isinstance(stated, str):
        made = replace(made, identity=replace(made.identity, base=replace(base, licence=stated)))
    then = json_trees.at(held, "run", "custody")
    if then not in STATES:
        return made
    same = replace(made, run=replace(made.run, custody=then))
    return replace(same, release=release.decide(same, same.rule))


def _is_derived(file: str) -> bool:
    """Whether a result is made from others, and can be made again."""
    if file.endswith(sidecar("")) or not file.endswith(".json"):
        return False
    if file.startswith("audit/") or file in (JUDGED, PASSPORT, FIGURES):
        return True
    return file.startswith("evaluate/") and file not in figures_again.OWN


def _spent(ledger: Ledger) -> Iterator[tuple[str, float, float]]:
    """Key, what an accountant makes of the mechanism, and what the ledger says."""
    if ledger.mechanism is None or not ledger.is_private:
        return
    from dpaudit.privacy import accountants

    claim = ledger.claim
    yield (
        "/epsilon_pld",
        accountants.epsilon_spent(ledger.mechanism, claim.delta, claim.relation),
        ledger.epsilon,
    )
    if ledger.epsilon_rdp is not None:
        yield "/epsilon_rdp", accountants.epsilon_rdp(ledger.mechanism, claim.delta), ledger.epsilon_rdp
    yield "/steps_done", float(ledger.mechanism.steps), float(ledger.steps_done)
