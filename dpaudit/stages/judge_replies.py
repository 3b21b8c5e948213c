"""The judge behind its replies: each is kept as it comes, and what was answered is never asked again."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.errors import UsageError
from dpaudit.findings.judgement import Asked
from dpaudit.judging import criteria, replies
from dpaudit.judging.replies import Allowance, Lost, Reply
from dpaudit.judging.rubric import Comparison, Outcome, Question, Rubric, served_key
from dpaudit.stages.integrity import weights
from dpaudit.storage.answer_log import NEW, AnswerLog
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key
from dpaudit.suite.suite import Judging
from dpaudit.system.progress import Advance, Progress

if TYPE_CHECKING:
    from dpaudit.models.judge import Judge, Replying

REPLIES = "judge/.replies"  # hidden: readers of results pass it by; each line has a seal of its own
LOST = ".lost"  # beside the replies: tries without one
FORMAT = "reply/3"
LONGEST = 4096  # tokens that a likelihood judge reads, or fewer where its model does
Files = Mapping[str, str]
NO_FILES: Files = {}
CHUNK = {"likelihood": 1024, "model": 64}  # questions that a judge on this machine takes at a time


@dataclass(frozen=True)
class Way:
    """How a command has a judge asked."""

    allow_egress: Sequence[str] = ()  # hosts that prompts and answers may be sent to
    max_tokens_total: int | None = None  # in place of the suite's
    is_offline: bool = False  # nobody is asked, and no model is loaded
    again: bool = False  # for what a server left without a verdict it is asked again, also where all is done


AS_USUAL = Way()


@dataclass(frozen=True)
class Kept:
    """Where replies are kept, under which key, and the command that asks for those that are missing. Without
    a key none are kept, since their names would confirm a guess.
    """

    file: Path
    key: bytes | None
    command: str


def kept_of(run_dir: RunDir) -> Kept:
    """The replies of a run, under the key of its seals."""
    return Kept(run_dir.file(REPLIES), seal_key(run_dir.path), of_run("dpaudit judge", run_dir.name))


class Asker:
    """The judge, opened when first needed: one on this machine in `dtype`. `longest` is its
    `window`; `files` are those of `files_of`.

    A judge of the caller's own has no name to keep replies by.
    """

    def __init__(
        self,
        kept: Kept,
        rules: Rubric,
        settings: Judging,
        longest: int,
        judge: "Judge | None" = None,
        way: Way = AS_USUAL,
        dtype: str = "float32",
        files: Files = NO_FILES,
    ) -> None:
        self.kept, self.rules, self.settings, self.way = kept, rules, settings, way
        self._longest, self._judge, self._dtype = longest, judge, dtype
        self._own: Replying | None = None
        self._replies: dict[Question, list[Reply]] = {}
        self._dates: dict[Question, list[str]] = {}  # of the replies
        self._lost: dict[Question, list[Lost]] = {}
        self._adding = threading.Lock()
        self._allowance = Allowance(allowed(rules, settings, way))
        of = depends_on(rules, longest, dtype, files)
        self._log = AnswerLog(kept.file, kept.key, of) if kept.key else None
        self._losses = AnswerLog(kept.file.with_name(LOST), kept.key, of) if kept.key else None

    def compare(
        self, comparisons: Sequence[Comparison], description: str, progress: Progress
    ) -> list[Outcome]:
        """The outcomes of all comparisons; only those that nobody answered are asked."""
        if self._judge is not None:
            unique = list(dict.fromkeys(comparisons))
            told = dict(zip(unique, self._judge.compare_many(unique), strict=True))
            return [told[comparison] for comparison in comparisons]
        absent = self.absent(comparisons)
        if absent and self.way.is_offline:
            raise self._missing(len(absent), len(criteria.questions(self.rules, comparisons)))
        with progress.task(description, len(absent)) as advance:
            self._ask(absent, advance)
        return [criteria.outcome(self.rules, comparison, self._settled) for comparison in comparisons]

    def absent(self, comparisons: Sequence[Comparison]) -> list[Question]:
        """What has to be asked for them, each question once."""
        self.recall(comparisons)
        return [one for one in criteria.questions(self.rules, comparisons) if self._is_open(one)]

    def recall(self, comparisons: Sequence[Comparison]) -> None:
        """Reads what was kept of them, and counts what it took."""
        for question in criteria.questions(self.rules, comparisons):
            if question not in self._replies:
                self._dates[question] = []
                self._replies[question] = list(self._kept(question))
                self._lost[question] = list(self._kept_losses(question))
                self._count(question)

    def account(self, comparisons: Sequence[Comparison]) -> Asked | None:
        """What was asked for these comparisons; None for a judge of the caller's own."""
        if self._judge is not None:
            return None
        self.recall(comparisons)
        asked = criteria.questions(self.rules, comparisons)
        lost = (each for one in asked for each in self._lost[one])
        found = replies.account((self._replies[one] for one in asked), self.rules, lost)
        dates = [date for one in asked for date in self._dates[one]]
        return replace(found, oldest=min(dates, default=None), newest=max(dates, default=None))

    def require_there(self) -> None:
        """Raises UsageError as the function of this name, where a judge of the rubric may be asked."""
        if self._judge is None and not self.way.is_offline:
            require_there(self.rules)

    def leaves_open(self, unscored: int) -> bool:
        """Whether it is worth asking again for comparisons without a verdict."""
        return self.way.again and self.rules.kind == "endpoint" and unscored > 0

    def _settled(self, question: Question) -> Outcome:
        return replies.settled(self._replies[question], self.rules)

    def _is_open(self, question: Question) -> bool:
        kept = self._replies[question]
        if kept and replies.settled(kept, self.rules).winner != "unscored":
            return False
        if self.rules.kind != "endpoint" or self.way.is_offline:  # another try would say the same
            return not any(reply.is_last for reply in kept)
        return True

    def _kept(self, question: Question) -> Iterator[Reply]:
        while self._log and (answer := self._log.answers([question_key(question)])[0]) is not NEW:
            self._dates[question].append(answer["date"])
            yield Reply(**answer["reply"])

    def _kept_losses(self, question: Question) -> Iterator[Lost]:
        asked = question_key(question)
        while self._losses and (reason := self._losses.answers([asked])[0]) is not NEW:
            yield Lost(reason)

    def _keep(self, question: Question, reply: Reply | Lost) -> None:
        if isinstance(reply, Lost):
            if self._losses:
                self._losses.keep(question_key(question), reply.reason)
            with self._adding:
                self._lost[question].append(reply)
            return
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self._log:
            self._log.keep(question_key(question), {"date": date, "reply": asdict(reply)})
        with self._adding:
            self._replies[question].append(reply)
            self._dates[question].append(date)

    def _ask(self, absent: Sequence[Question], advance: Advance) -> None:
        size = CHUNK.get(self.rules.kind, len(absent) or 1)
        for start in range(0, len(absent), size):
            self._opened().ask_many(absent[start : start + size], self._keep, advance)

    def _opened(self) -> "Replying":
        if self._own is None:
            from dpaudit.models.judge import open_judge

            self._own = open_judge(
                self.rules,
                self._longest,
                self.way.allow_egress,
                self.settings.parallel,
                self._allowance,
                self._dtype,
            )
        return self._own

    def _count(self, question: Question) -> None:
        if not self._replies[question]:
            return
        text = replies.shown(self.rules, question)
        for reply in self._replies[question]:
            self._allowance.count(text, reply, self.rules.max_new_tokens)

    def _missing(self, absent: int, wanted: int) -> UsageError:
        return UsageError(
            str(self.kept.file),
            f"a reply to each of {wanted} questions",
            f"{absent} without one",
            f"type `{self.kept.command}`, which asks for them",
        )


def count(file: Path) -> int:
    """How many replies are kept in a file."""
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def files_of(rules: Rubric) -> Files:
    """What a judge on this machine is loaded from: place in its folder -> SHA-256; empty for a server."""
    if rules.kind == "endpoint":
        return NO_FILES
    from dpaudit.models.judge import adapter_folder

    adapter = rules.adapter if rules.kind == "likelihood" else None
    model, added = weights.of_base(rules.model), adapter and weights.of_start(str(adapter_folder(adapter)))
    return {f"model/{name}": digest for name, digest in model.items()} | {
        f"adapter/{name}": digest for name, digest in (added or {}).items()
    }


def depends_on(rules: Rubric, longest: int, dtype: str = "float32", files: Files = NO_FILES) -> list[Any]:
    """What a reply depends on beside its question: model (its files, where they are on this machine), rubric
    text and decoding; nothing of the way to a server.
    """
    limit = longest if rules.kind == "likelihood" else None
    temperature = rules.temperature if rules.kind == "endpoint" else None
    decoding: list[Any] = [rules.max_new_tokens, temperature, limit, rules.verdict]
    if rules.kind != "endpoint":
        decoding += [dtype, dict(files)]
    text = [rules.prompt, asdict(rules.labels)]
    return [FORMAT, rules.kind, rules.model, rules.adapter, *text, *decoding]


def question_key(question: Question) -> dict[str, Any]:
    """What a judge is asked; criteria are asked one at a time, so that no question holds several."""
    return {key: value for key, value in asdict(question).items() if key != "criteria"}


def allowed(rules: Rubric, settings: Judging, way: Way = AS_USUAL) -> int | None:
    """The tokens that may be taken in all; None: as many as it needs. Raises UsageError for a limit where
    nobody counts.
    """
    most = settings.max_tokens_total if way.max_tokens_total is None else way.max_tokens_total
    if most is not None and rules.kind != "endpoint":
        raise UsageError(
            "--max-tokens-total",
            "a rubric of kind endpoint, whose server counts tokens",
            f"kind {rules.kind}",
            "leave it (and judging.max_tokens_total) out",
        )
    return most


def window(rules: Rubric) -> int:
    """Tokens of a prompt with its answer that a judge on likelihoods scores: as many as its model reads, at
    most LONGEST; 0 for another kind, which is shown everything. Raises UsageError for a model that is not
    there.
    """
    if rules.kind != "likelihood":
        return 0
    from dpaudit.models import hf

    config = hf.configuration(rules.model)
    return min(LONGEST, int(getattr(config, "max_position_embeddings", LONGEST) or LONGEST))


def require_there(rules: Rubric) -> None:
    """Raises UsageError for what takes no library to see: a key that is not set, a model or an adapter on
    this machine that is not there. For commands that would else load and read for seconds before it.
    """
    if rules.kind == "endpoint":
        served_key(rules)
        return
    from dpaudit.models import hub

    parts = {"model": rules.model, "adapter": rules.adapter if rules.kind == "likelihood" else None}
    for key, name in parts.items():
        if not name or name.startswith("builtin:") or (key == "model" and hub.is_id(name)):
            continue
        if not Path(name).expanduser().is_dir():
            raise UsageError(
                f"rubric {rules.name}: {key}",
                "a folder that is here, a hub id OWNER/NAME or builtin:NAME",
                f"{name}, which is none of them",
                f"check the path, or name another with --set judging.{key}=DIR"
                if key == "model"
                else "check the path in the rubric",
            )


def require_askable(rules: Rubric, settings: Judging, way: Way) -> None:
    """Raises UsageError for a model that would not load whole, for a server that may not be asked or lacks
    its key, and as `allowed` does.
    """
    from dpaudit.models import judge as judges
    from dpaudit.models import preflight
    from dpaudit.models.endpoint_judge import EndpointJudge

    allowed(rules, settings, way)
    if rules.kind == "endpoint":
        EndpointJudge(rules, way.allow_egress)
        return
    has_adapter = rules.adapter is not None and rules.kind == "likelihood"
    adapter = judges.adapter_folder(rules.adapter or "") if has_adapter else None
    preflight.check(rules.model, None, adapter)
