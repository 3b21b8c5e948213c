"""Stage judge: the judge proves itself on planted faults, then compares every arm's answers in both
orders.
"""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from dpaudit.data.corpus import Record, Turn
from dpaudit.findings.judgement import Judgement, Passport
from dpaudit.judging import planted, quality, rubric
from dpaudit.judging.passport import Row, comparisons_of, pair_summary, passport_of
from dpaudit.judging.quality import BASE
from dpaudit.judging.rubric import Comparison, Control, Controls, Outcome, Rubric
from dpaudit.stages import evaluate
from dpaudit.stages.evaluate import load_model
from dpaudit.stages.integrity import custody, weights
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.storage.exclusive import alone
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key
from dpaudit.storage.sidecars import read_sealed_lines, write_sealed_lines
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging, Suite
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.judge import Judge

RUBRIC = "judge/rubric.json"
ANSWERS = "judge/answers.jsonl"
PASSPORT = "judge/passport.json"
JUDGEMENTS = "judge/judgements.jsonl"
SUMMARY = "judge/summary.json"
REPLAY = "judge/replay.jsonl"
SETTINGS = declarations.input_of("judging")
CHUNK = {"likelihood": 1024, "model": 64, "endpoint": 16}  # comparisons between two writes of the replay file

Prompts = dict[str, tuple[Turn, ...]]  # id of the first record that asks -> the turns before the answer


@alone("judge")
def run(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    *,
    judge: "Judge | None" = None,
    allow_egress: Sequence[str] = (),
) -> None:
    """Writes judge/{answers.jsonl, passport.json, judgements.jsonl, summary.json}.

    The passport comes first; an unfit judge compares nothing and the summary's win rates are null. `judge`
    takes the place of the rubric's own. `allow_egress` names hosts that prompts and answers may be sent to.
    Nothing is done where the suite has no `judging`.
    """
    settings = plan.suite.judging
    if settings is None:
        return
    arms = require_ready(run_dir, plan)
    names = [BASE, *(arm.name for arm in arms)]
    rules = _write_rubric(run_dir, plan, settings)
    if run_dir.is_current(SUMMARY, [*_inputs(names), SETTINGS, PASSPORT]):
        return
    with run_dir.read_now(_inputs(names)):
        asker = _Asker(run_dir, plan, rules, judge, allow_egress)
        passport = _passport(run_dir, plan, asker, progress)
        pairs = [(a, b) for a, b in quality.references(arms, settings.against) if b in names]
        judgements: list[Row] = []
        if passport.fit:
            prompts = prompts_of(_heldout(run_dir), settings.prompts)
            answers = _answers(run_dir, plan, names, prompts, progress)
            judgements = _judge(asker, rules, prompts, answers, pairs, progress)
        write_sealed_lines(run_dir, JUDGEMENTS, judgements)
        judgement = Judgement(
            rubric=rules.name,
            title=rules.title,
            kind=rules.kind,
            fit=passport.fit,
            reason=None if passport.fit else "; ".join(passport.reasons),
            passport=passport,
            pairs=tuple(pair_summary(judgements, arm, against) for arm, against in pairs),
        )
        judgement.write(run_dir, SUMMARY, [*_inputs(names), SETTINGS, PASSPORT])


@alone("judge")
def validate(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    *,
    judge: "Judge | None" = None,
    allow_egress: Sequence[str] = (),
) -> bool:
    """Whether the judge passes its planted faults; writes judge/passport.json alone. No arm need be
    trained.
    """
    custody.require(run_dir, plan)
    rules = _write_rubric(run_dir, plan, plan.suite.judging or Judging())
    asker = _Asker(run_dir, plan, rules, judge, allow_egress)
    return _passport(run_dir, plan, asker, progress).fit


def require_ready(run_dir: RunDir, plan: Plan) -> list[Arm]:
    """The trained arms whose answers are judged: all but twins. Raises UsageError as stage evaluate does."""
    return [arm for arm in evaluate.require_ready(run_dir, plan) if not arm.twin]


def prompts_of(records: Sequence[Record], count: int) -> Prompts:
    """The first `count` different prompts of the held-out records: what comes before each record's last
    answer.
    """
    prompts: Prompts = {}
    for record in records:
        turns = record.turns if record.is_pair else record.turns[:-1]
        if turns and turns not in prompts.values() and len(prompts) < count:
            prompts[record.id] = turns
    return prompts


class _Asker:
    """The judge, opened when first needed, behind a replay of what it already answered in this run
    directory.
    """

    def __init__(
        self, run_dir: RunDir, plan: Plan, rules: Rubric, judge: "Judge | None", allow_egress: Sequence[str]
    ) -> None:
        self.run_dir, self.plan, self.rules, self.judge = run_dir, plan, rules, judge
        self.allow_egress = allow_egress
        self.secret = seal_key(run_dir.path)
        # the caller's own judge has no name to replay by; without a key, names would confirm a guess
        self.replayed = judge is None and self.secret is not None
        rows = read_sealed_lines(run_dir, REPLAY) if self.replayed and run_dir.file(REPLAY).is_file() else []
        self.known: dict[str, Row] = {row["key"]: row for row in rows}

    def compare(
        self, comparisons: Sequence[Comparison], description: str, progress: Progress
    ) -> list[Outcome]:
        """The outcomes of all comparisons; only those that were never asked are asked, and kept as they
        come.
        """
        keys = [self._key(comparison) for comparison in comparisons]
        absent = list(
            {key: c for key, c in zip(keys, comparisons, strict=True) if key not in self.known}.items()
        )
        with progress.task(description, len(absent)) as advance:
            size = CHUNK[self.rules.kind]
            for start in range(0, len(absent), size):
                part = absent[start : start + size]
                outcomes = self._open().compare_many([comparison for _, comparison in part])
                for (key, _), outcome in zip(part, outcomes, strict=True):
                    self.known[key] = {"key": key, "winner": outcome.winner, "margin": outcome.margin}
                if self.replayed:
                    write_sealed_lines(self.run_dir, REPLAY, self.known.values())
                advance(len(part))
        return [Outcome(self.known[key]["winner"], self.known[key]["margin"]) for key in keys]

    def _open(self) -> "Judge":
        if self.judge is None:
            from dpaudit.models.judge import open_judge

            self.judge = open_judge(self.rules, _longest(self.plan), self.allow_egress)
        return self.judge

    def _key(self, comparison: Comparison) -> str:
        """A keyed name of a comparison: nobody can confirm a guessed prompt without the run's key."""
        asked = [asdict(self.rules) | {"controls": None}, asdict(comparison), _limit(self.rules, self.plan)]
        text = f"replay {json.dumps(asked, sort_keys=True)}"
        return hmac.digest(self.secret or b"", text.encode(), "sha256").hex()[:32]


def rules_of(chosen: Suite, settings: Judging) -> Rubric:
    """The rubric that is asked for, with its choice of model (`base`: the run's own) in it."""
    rules = rubric.load(settings.rubric)
    if settings.model is None:
        return rules
    return replace(rules, model=chosen.model.base if settings.model == "base" else settings.model)


def _write_rubric(run_dir: RunDir, plan: Plan, settings: Judging) -> Rubric:
    """The rubric that is asked for, kept beside the results."""
    rules = rules_of(plan.suite, settings)
    run_dir.write_json(RUBRIC, {"rubric": asdict(rules), "max_length": _limit(rules, plan)})
    return rules


def _longest(plan: Plan) -> int:
    """Tokens of a prompt with its answer."""
    return plan.suite.model.max_length + (plan.suite.judging or Judging()).max_new_tokens


def _limit(rules: Rubric, plan: Plan) -> int | None:
    """The tokens beyond which a judge calls an answer invalid; only a likelihood judge does."""
    return _longest(plan) if rules.kind == "likelihood" else None


def _inputs(names: Sequence[str]) -> list[str]:
    adapters = [weights_of(name) for name in names if name != BASE]
    return ["plan.json", "corpus/manifest.json", RUBRIC, *adapters]


def _passport(run_dir: RunDir, plan: Plan, asker: _Asker, progress: Progress) -> Passport:
    """The passport of the rubric's judge, made or found current."""
    made_from = ["plan.json", "corpus/manifest.json", RUBRIC]
    if not run_dir.is_current(PASSPORT, made_from):
        controls = _controls(run_dir, plan, asker.rules.controls)
        outcomes = asker.compare(comparisons_of(asker.rules, controls), "judging planted faults", progress)
        passport_of(asker.rules, controls, outcomes).write(run_dir, PASSPORT, made_from)
    return Passport.read(run_dir, PASSPORT)


def _controls(run_dir: RunDir, plan: Plan, wanted: Controls) -> list[Control]:
    """Faults of the builtin clinic, or planted in held-out answers, and what is made of them."""
    if plan.suite.data.source == "builtin:clinic":
        from dpaudit.data import clinic

        faults = [Control(**row) for row in clinic.judge_controls(plan.seed, wanted.count)]
    else:
        faults = planted.plant([record for record in _heldout(run_dir) if not record.is_pair], wanted)
    return planted.completed(faults, wanted)


def _answers(
    run_dir: RunDir, plan: Plan, names: Sequence[str], prompts: Prompts, progress: Progress
) -> dict[str, dict[str, str]]:
    """Model -> prompt id -> greedy answer. Those of an unchanged model are read back, the rest generated."""
    settings = plan.suite.judging or Judging()
    sources = {name: _source(run_dir, name, plan, settings.max_new_tokens) for name in names}
    kept = read_sealed_lines(run_dir, ANSWERS) if run_dir.file(ANSWERS).is_file() else []
    rows = {(row["arm"], row["prompt"]): row for row in kept if sources.get(row["arm"]) == row["source"]}
    pending = {
        name: new for name in names if (new := [prompt for prompt in prompts if (name, prompt) not in rows])
    }
    if pending:
        with progress.task("answering", sum(map(len, pending.values()))) as advance:
            model = load_model(run_dir, plan, list(pending))
            for name, new in pending.items():
                with model.active(None if name == BASE else name):
                    asked = [prompts[prompt] for prompt in new]
                    texts = model.generate(asked, settings.max_new_tokens, advance)
                for prompt, text in zip(new, texts, strict=True):
                    rows[name, prompt] = {
                        "arm": name,
                        "prompt": prompt,
                        "answer": text,
                        "source": sources[name],
                    }
                write_sealed_lines(run_dir, ANSWERS, rows.values())
    return {name: {prompt: rows[name, prompt]["answer"] for prompt in prompts} for name in names}


def _source(run_dir: RunDir, name: str, plan: Plan, max_new_tokens: int) -> str:
    """What the answers of a model depend on, as one digest."""
    files = ["plan.json", "corpus/manifest.json", *([] if name == BASE else [weights_of(name)])]
    made_from = [run_dir.digests(files), weights.of_base(plan.suite.model.base), max_new_tokens]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]


def _judge(
    asker: _Asker,
    rules: Rubric,
    prompts: Prompts,
    answers: dict[str, dict[str, str]],
    pairs: Sequence[tuple[str, str]],
    progress: Progress,
) -> list[Row]:
    """One row a comparison: ids and outcome, no text."""
    rows: list[Row] = []
    shown: list[Comparison] = []
    for arm, against in pairs:
        for prompt, turns in prompts.items():
            for order in ("arm first", "against first")[: 2 if rules.swap else 1]:
                texts = (answers[arm][prompt], answers[against][prompt])
                first, second = texts if order == "arm first" else texts[::-1]
                rows.append({"arm": arm, "against": against, "prompt": prompt, "order": order})
                shown.append(Comparison(turns, first, second))
    for row, outcome in zip(rows, asker.compare(shown, "judging", progress), strict=True):
        sides = ("arm", "against") if row["order"] == "arm first" else ("against", "arm")
        row["winner"] = dict(zip(("first", "second"), sides, strict=True)).get(outcome.winner, outcome.winner)
        row["margin"] = outcome.margin
    return rows


def _heldout(run_dir: RunDir) -> list[Record]:
    return [Record.from_json(row) for row in run_dir.read_lines("corpus/heldout.jsonl")]
