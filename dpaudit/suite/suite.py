"""Suites: what a run does. Frozen dataclasses that mirror suites/*.yaml key by key, and the plan that a run
keeps.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dpaudit import content, strict_yaml
from dpaudit.data import canary
from dpaudit.data.shapes import is_unicode
from dpaudit.errors import BadValue, UsageError, kind_of
from dpaudit.schema import build

Unit = Literal["record", "patient", "pair", "label"]
Method = Literal["cpt", "sft", "dpo"]  # continued pretraining on plain text, dialogues, preference pairs
AttackKind = Literal["mia", "extract", "preference"]
REPRODUCIBLE = "epsilon not claimed: the noise is reproducible"
ASSUMED_PUBLIC = "epsilon covers this run only: what it started from has no ledger and was taken for public"
CORPUS_WORDS = "epsilon does not cover the words that canaries take from the corpus (candidates.family)"
SEEDS_MOST = 1000  # trainings of one arm
COPIES_MOST = 1000  # of one extraction canary
PLAN_FORMAT = 2  # 1 held all of the suite
# What a run is asked beside its training: name of the record -> keys of the suite. All other keys are the
# plan, and a
# change of them is another run; whatever training depends on must be among those.
RECORDS: dict[str, tuple[str, ...]] = {
    "evaluation": ("evaluation",),
    "judging": ("judging",),
    "claims": ("claims",),
    "attacks": ("attacks", "shadows"),
    "placement": (
        "training.micro_batch",
        "training.gradient_checkpointing",
        "training.checkpoint_every",
        "model.shape",
    ),
    "description": ("description",),
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # it becomes the name of a folder


@dataclass(frozen=True)
class Model:
    base: str = "builtin:tiny"  # builtin:tiny, a Hugging Face folder, or a hub id
    max_length: int = 96  # tokens; what is longer is truncated and counted
    pair_prompt: int | None = None  # of a preference pair, at most so many last tokens of the prompt ...
    pair_answer: int | None = None  # ... and first tokens of each answer
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantization: Literal["nf4"] | None = None  # of the frozen base, with double quantization
    attention: str | None = None  # attn_implementation, such as flash_attention_2; None: the library's choice
    start: str | None = (
        None  # an adapter to go on from (a run's train/ARM, or an adapter folder with a ledger)
    )
    assume_public: bool = False  # takes a start without a ledger for public; the page says so
    shape: dict[str, int] = field(
        default_factory=dict
    )  # sizes of a Llama that is not here; for --dry-run alone

    def __post_init__(self) -> None:
        _at_least(2, max_length=self.max_length)
        _at_least(1, pair_prompt=self.pair_prompt, pair_answer=self.pair_answer)


@dataclass(frozen=True)
class Data:
    source: str = "builtin:clinic"  # or a JSONL file
    preference: str | None = (
        None  # pairs for DPO: builtin:clinic, a file, faults (planted in the source's answers), or none
    )
    text: str | None = None  # plain text for continued pretraining: builtin:clinic, a file, or none
    rows: str | None = None  # A:B keeps rows A to B of the source, counted from 0
    patients: int = 4000  # builtin:clinic only
    heldout: int = 300  # records kept for held-out quality; no arm trains on them
    limit: int | None = None  # at most so many records of a file

    def __post_init__(self) -> None:
        _at_least(1, patients=self.patients, limit=self.limit)
        _at_least(0, heldout=self.heldout)
        for key in ("source", "preference", "text"):
            if not is_unicode(getattr(self, key) or ""):
                raise BadValue(key, "a name in UTF-8", "one with other bytes", "rename the file")


@dataclass(frozen=True)
class Candidates:
    """Units whose membership a coin decides. Extraction canaries: half planted, half controls."""

    family: str = "record_number"  # a key of canary.FAMILIES
    canaries: int = 500
    canary_length: int = 6  # symbols in the secret of a membership canary
    canary_repetitions: int = (
        1  # its dialogues; more than one only under unit patient, where they are one unit
    )
    records: int = 300
    extraction: int = 64
    extraction_length: int = 4
    extraction_repetitions: int | tuple[int, ...] = 4  # copies; of a list, each level has an equal share
    temperature: float = 1.5  # of the base model's samples, family synthetic
    gradient: int = (
        0  # canaries along axes of the weights, in private arms: they show noise, clip and sampler at work
    )

    def __post_init__(self) -> None:
        _at_least(0, canaries=self.canaries, records=self.records, extraction=self.extraction)
        if self.gradient:
            _at_least(100, gradient=self.gradient)
        _at_least(1, canary_length=self.canary_length, canary_repetitions=self.canary_repetitions)
        _at_least(1, extraction_length=self.extraction_length)
        _above_zero(temperature=self.temperature)
        _check_canaries(self)

    @property
    def levels(self) -> tuple[int, ...]:
        """The numbers of copies that extraction canaries have."""
        copies = self.extraction_repetitions
        return (copies,) if isinstance(copies, int) else copies


@dataclass(frozen=True)
class Lora:
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    rslora: bool = False  # alpha / sqrt(rank) in place of alpha / rank
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        _at_least(1, rank=self.rank, alpha=self.alpha)
        _between(0, 1, dropout=self.dropout)


@dataclass(frozen=True)
class Schedule:
    """How one kind of arm steps. `batch` is the expected number of units a step."""

    batch: int
    steps: int
    learning_rate: float
    warmup: float = 0.05
    decay: Literal["constant", "cosine", "linear"] = "linear"
    weight_decay: float = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.0  # sgd only

    def __post_init__(self) -> None:
        _between(0, 1, momentum=self.momentum)
        _at_least(1, batch=self.batch, steps=self.steps)
        _above_zero(learning_rate=self.learning_rate)
        _between(0, 1, warmup=self.warmup, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Training:
    private: Schedule
    nonprivate: Schedule
    dpo_private: Schedule | None = None
    dpo_nonprivate: Schedule | None = None
    cpt_private: Schedule | None = None
    cpt_nonprivate: Schedule | None = None
    dpo_beta: float | None = None  # None: the loss's published value
    dpo_label_smoothing: float | None = None
    unit: Unit = "patient"
    relation: Literal["add_or_remove"] = "add_or_remove"
    delta: float = 1e-5
    clip: float = 1.0
    population: int | None = None  # public number of units; None: the count is used and the page names it
    records_per_patient: int | None = None  # at most so many of one patient's records; None: all
    micro_batch: int = 256  # sequences in one forward pass; never changes the step
    coupled_pairs: int = (
        128  # of a loss that couples pairs (KTO, AOT): how many it sees at once, at most; changes the loss
    )
    gradient_checkpointing: bool = False  # recomputes activations: less memory, the same step
    checkpoint_every: int = (
        50  # at most so many steps between two states from which a killed arm goes on; see loop.KEEP_SECONDS
    )
    deepspeed: Literal["zero1"] | None = None  # non-private DPO arms only, by TRL
    allow_delta: bool = False  # lets delta be 1 / population or above
    lora: Lora = field(default_factory=Lora)

    @property
    def claimed_delta(self) -> float:
        return 0.0 if self.unit == "label" else self.delta  # randomised response needs none

    @property
    def claimed_relation(self) -> Literal["add_or_remove", "replace"]:
        return "replace" if self.unit == "label" else self.relation

    def __post_init__(self) -> None:
        _above_zero(delta=self.delta, clip=self.clip)
        if self.dpo_beta is not None:
            _above_zero(dpo_beta=self.dpo_beta)
        _between(0, 1, delta=self.delta, dpo_label_smoothing=self.dpo_label_smoothing or 0.0)
        _at_least(
            1, population=self.population, micro_batch=self.micro_batch, coupled_pairs=self.coupled_pairs
        )
        _at_least(1, records_per_patient=self.records_per_patient, checkpoint_every=self.checkpoint_every)


@dataclass(frozen=True)
class Grid:
    epsilons: tuple[float, ...] = (8.0, 4.0, 1.0)
    baseline: bool = True  # the non-private arm beside them
    dpo: tuple[str, ...] = ()
    dpo_epsilons: tuple[float, ...] | None = None  # None: as epsilons (and inf with the baseline)
    stages: tuple[Method, ...] = ("sft",)  # what is trained beside the DPO arms of `dpo`
    chain: bool = False  # each stage goes on from the one before; else every arm starts at the base
    share: float = 0.5  # chain: of a claim, what the stages before may spend
    seeds: int = 1
    twin: bool = (
        False  # beside each non-private SFT arm one that sees no canary: what canaries cost in quality
    )

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise BadValue("share", "a number between 0 and 1", self.share)
        for key, epsilons in (("epsilons", self.epsilons), ("dpo_epsilons", self.dpo_epsilons or ())):
            for epsilon in epsilons:
                if not epsilon > 0:
                    raise BadValue(
                        key,
                        "numbers above 0",
                        f"{epsilon:g}",
                        "inf is the non-private arm",
                    )
        _at_least(1, seeds=self.seeds)
        if self.seeds > SEEDS_MOST:
            raise BadValue("seeds", f"at most {SEEDS_MOST}", self.seeds if self.seeds < 10**9 else "more")


@dataclass(frozen=True)
class Task:
    """One benchmark: an lm-eval task name, or a YAML of suites/tasks/ with the file that holds its items."""

    name: str
    data: str | None = None  # builtin:clinic, a JSONL file, or none for a task that brings its own


@dataclass(frozen=True)
class Evaluation:
    tasks: tuple[Task, ...] = ()
    limit: int | None = None
    margin: float = 0.05  # non-inferiority margin in accuracy, declared before the run
    batch: int = 64


@dataclass(frozen=True)
class Judging:
    rubric: str = "likelihood"  # a file of judges/
    model: str | None = None  # in place of the rubric's: a folder, a hub id, or `base` for the run's own base
    prompts: int = 100
    max_new_tokens: int = 40
    against: tuple[str, ...] = ("inf", "base")


@dataclass(frozen=True)
class DeclaredClaim:
    """What one arm is said to be, declared before the run and checked by `dpaudit verify --run`."""

    arm: str
    epsilon: float
    delta: float
    unit: Unit
    relation: Literal["add_or_remove", "replace"]

    def __post_init__(self) -> None:
        _between(0, math.inf, epsilon=self.epsilon)
        _between(0, 1, delta=self.delta)


@dataclass(frozen=True)
class Suite:
    name: str
    training: Training
    description: str = ""
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    candidates: Candidates = field(default_factory=Candidates)
    grid: Grid = field(default_factory=Grid)
    attacks: tuple[AttackKind, ...] = ("mia", "extract")
    shadows: int = 0  # shadow models an arm, for the recipes that compare with them; even
    primary: str = "calibrated"  # the one recipe that verdicts come from, registered before the run
    evaluation: Evaluation = field(default_factory=Evaluation)
    judging: Judging | None = field(default_factory=Judging)
    claims: tuple[DeclaredClaim, ...] = ()

    def __post_init__(self) -> None:
        _check_claims(self)
        _check_twin(self)
        if self.shadows < 0 or self.shadows % 2:
            raise BadValue(
                "shadows",
                "an even number, so that every candidate is in half of them",
                self.shadows,
                "0 trains none",
            )
        if not NAME.fullmatch(self.name):
            raise BadValue(
                "name",
                "letters, digits, . _ -, with a letter or digit first",
                f"{self.name!r:.40}",
                "it becomes the name of a folder",
            )
        if self.training.unit == "record" and self.candidates.canary_repetitions > 1:
            raise BadValue(
                "candidates.canary_repetitions",
                "1 under unit record",
                self.candidates.canary_repetitions,
                "a bound needs canaries that occur once",
            )


@dataclass(frozen=True)
class Arm:
    """One trained model of the grid."""

    method: Method
    loss: str  # as the method, or the name of a DPO loss
    epsilon: float  # inf: non-private
    seed: int = 0
    twin: bool = False  # learns from no canary; only its quality counts

    @property
    def lesson(self) -> str:
        """What it learns from: the data of its method, with canaries or without."""
        return f"{self.method}-twin" if self.twin else self.method

    @property
    def private(self) -> bool:
        return math.isfinite(self.epsilon)

    @property
    def name(self) -> str:
        stem = f"dpo-{self.loss}" if self.method == "dpo" else self.method
        seed = f"-s{self.seed}" if self.seed else ""
        return f"{stem}-{epsilon_label(self.epsilon)}{seed}{'-twin' if self.twin else ''}"


@dataclass(frozen=True)
class Plan:
    """A resolved suite with the seeds. What training depends on is kept as plan.json and never edited; the
    rest is RECORDS.
    """

    suite: Suite
    seed: int = 0
    insecure_seed: int | None = None  # fixes coins, sampling and noise too: then no epsilon is claimed
    versions: dict[str, str] = field(default_factory=dict)
    primary_digest: str | None = None  # of the primary recipe, which may not change once scores are seen

    @property
    def caveat(self) -> str | None:
        """What must be said beside every figure of such a run; None where there is nothing."""
        told = [REPRODUCIBLE] if self.insecure_seed is not None else []
        if self.suite.model.start and self.suite.model.assume_public:
            told.append(ASSUMED_PUBLIC)
        if self.suite.candidates.family in canary.CORPUS_FAMILIES:
            told.append(CORPUS_WORDS)
        return "; ".join(told) or None

    def to_json(self) -> dict[str, Any]:
        """What training depends on, as plan.json holds it."""
        told = dict(_finite(asdict(self)))
        _drop(told["suite"], [key for keys in RECORDS.values() for key in keys])
        return {"format": PLAN_FORMAT, **told}

    @classmethod
    def from_json(cls, data: dict[str, Any], file: str = "plan.json") -> "Plan":
        """The plan that `to_json` told; what it leaves out has its defaults. Raises UsageError for one of
        another version.
        """
        if data.get("format") != PLAN_FORMAT:
            raise UsageError(
                file,
                "a plan as this version of dpaudit writes it",
                "one of another version",
                "go on with the version that began the run; to train anew is a second release on the same "
                "records",
            )
        return build(cls, {key: value for key, value in data.items() if key != "format"}, file=file)

    def trains_as(self, written: dict[str, Any]) -> bool:
        """Whether another plan.json, of whatever version, is this very training but for versions and the
        primary recipe.

        Raises UsageError for one with keys that are unknown by now.
        """
        other = build(
            Plan, {key: value for key, value in written.items() if key != "format"}, file="plan.json"
        )
        told = [replace(one, versions={}, primary_digest=None).to_json() for one in (self, other)]
        for one in told:
            del one["suite"]["primary"]
        return told[0] == told[1]

    def settings(self, record: str) -> dict[str, Any]:
        """What the suite says for one of RECORDS: dotted key -> value."""
        told = _finite(asdict(self.suite))
        return {key: _get(told, key) for key in RECORDS[record]}

    def with_settings(self, settings: dict[str, Any], file: str) -> "Plan":
        """This plan with other values of dotted keys. Raises UsageError that names `file` where they do not
        fit.
        """
        told = _finite(asdict(self.suite))
        for key, value in settings.items():
            _put(told, key, value)
        return replace(self, suite=build(Suite, told, file=file))

    @property
    def of_training(self) -> "Plan":
        """What the stages that train may see: plan.json, and where and how its steps are computed; all else
        at its default.
        """
        return Plan.from_json(self.to_json()).with_settings(self.settings("placement"), "plan.json")


def _check_canaries(wanted: Candidates) -> None:
    canary.check_family(wanted.family, wanted.extraction)
    if wanted.canary_repetitions > canary.REPETITIONS_MOST:
        raise BadValue(
            "canary_repetitions",
            f"at most {canary.REPETITIONS_MOST}, one a wording",
            wanted.canary_repetitions,
        )
    if not wanted.levels or len(set(wanted.levels)) < len(wanted.levels):
        raise BadValue(
            "extraction_repetitions", "a number, or a list of different numbers", str(list(wanted.levels))
        )
    _at_least(1, extraction_repetitions=min(wanted.levels))
    if max(wanted.levels) > COPIES_MOST:
        raise BadValue("extraction_repetitions", f"at most {COPIES_MOST}", max(wanted.levels))
    if wanted.extraction % len(wanted.levels):
        raise BadValue(
            "extraction",
            f"a multiple of the {len(wanted.levels)} levels of extraction_repetitions",
            wanted.extraction,
        )


def _check_claims(suite: Suite) -> None:
    names = [arm.name for arm in arms(suite) if not arm.twin] if suite.claims else []
    for claim in suite.claims:
        if claim.arm not in names:
            raise BadValue("claims", f"one of the arms {', '.join(names)}", f"{claim.arm!r:.40}")
        if (claim.unit, claim.relation) != (suite.training.unit, suite.training.claimed_relation):
            tested = (
                f"unit {suite.training.unit}, relation {suite.training.claimed_relation}, which the run tests"
            )
            raise BadValue(
                "claims",
                f"a claim with {tested}",
                f"{claim.arm} with unit {claim.unit}, relation {claim.relation}",
            )
        if claim.unit == "label":
            raise BadValue(
                "claims", "a unit whose membership an attack can guess", f"{claim.arm} with unit label"
            )


def _check_twin(suite: Suite) -> None:
    if not suite.grid.twin:
        return
    twins = [arm for arm in arms(suite) if arm.twin]
    if not twins:
        raise BadValue(
            "grid.twin",
            "a non-private SFT arm to be the twin of",
            "none",
            "set grid.baseline: true, and name sft in grid.stages",
        )
    if start_of(suite, twins[0]) is not None:
        raise BadValue(
            "grid.twin",
            "an arm that starts at the base",
            "one after a stage that saw canaries",
            "set grid.chain: false",
        )


def load(name: str, overrides: dict[str, Any] | None = None) -> Suite:
    """The suite called `name` (a file, or a name of `suites/`), with dotted keys of `overrides` put over it.

    Raises UsageError with file and key on anything unknown or ill-typed.
    """
    path = content.find("suites", name)
    data = content.load_yaml(path)
    for key, value in (overrides or {}).items():
        _put(data, key, value)
    return build(Suite, data, file=str(path))


def parse_override(text: str) -> tuple[str, Any]:
    """`training.private.steps=20` as key and YAML value. Raises UsageError where there is no `=`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(
            f"--set {text}",
            "KEY=VALUE",
            "no `=`",
            "for example --set training.private.steps=20",
        )
    if key.count(".") >= strict_yaml.MOST_LEVELS:
        raise UsageError(f"--set {key}", "a key of a suite", "one of too many levels")
    return key, strict_yaml.parse(value, f"--set {key}")


def arms(suite: Suite) -> list[Arm]:
    """The grid, stage by stage, seed by seed, largest epsilon first; with it the arms that others of it start
    from.
    """
    grid = suite.grid
    ladder = _ladder(grid.epsilons, grid.baseline)
    dpo_ladder = ladder if grid.dpo_epsilons is None else _ladder(grid.dpo_epsilons, False)
    shown = grid.stages[-1:] if grid.chain else grid.stages  # of a chain, the rest come as starts
    asked = [Arm(m, m, e, s) for m in shown for s in range(grid.seeds) for e in ladder]
    asked += [Arm("dpo", loss, e, s) for s in range(grid.seeds) for loss in grid.dpo for e in dpo_ladder]
    found = dict.fromkeys(asked)
    for arm in asked:
        while (earlier := start_of(suite, arm)) is not None:
            arm = earlier
            found.setdefault(arm)
    if grid.twin:
        found |= {replace(arm, twin=True): None for arm in found if arm.method == "sft" and not arm.private}
    methods = [*grid.stages, "dpo"]
    return sorted(
        found, key=lambda arm: (methods.index(arm.method), arm.seed, asked_place(arm, grid), arm.twin)
    )


def asked_place(arm: Arm, grid: Grid) -> tuple[int, float]:
    return (grid.dpo.index(arm.loss) if arm.method == "dpo" else 0, -arm.epsilon)


def start_of(suite: Suite, arm: Arm) -> Arm | None:
    """The arm of the stage before, from whose adapter this one goes on; None where it starts at the base.

    The start may spend `grid.share` of the arm's claim; what is left is for the arm's own steps.
    """
    methods = [*suite.grid.stages, "dpo"]
    place = methods.index(arm.method)
    if not suite.grid.chain or place == 0:
        return None
    earlier = suite.grid.stages[place - 1]
    return Arm(earlier, earlier, arm.epsilon * suite.grid.share, arm.seed)


def nonprivate(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The arm that `arm` is measured against: non-private with its loss and seed, else the non-private SFT
    arm.
    """
    reference = [a for a in arms if not a.private and not a.twin and a.seed == arm.seed]
    same = [a for a in reference if (a.method, a.loss) == (arm.method, arm.loss)]
    return next(iter(same or [a for a in reference if a.method == "sft"]), None)


def epsilon_label(epsilon: float) -> str:
    """The epsilon in an arm's name, short where that is exact: no two epsilons share one."""
    if math.isinf(epsilon):
        return "inf"
    short = f"{epsilon:g}"
    return f"eps{short if float(short) == epsilon else repr(float(epsilon))}"


def parse_epsilons(text: str) -> tuple[float, ...]:
    """`1,4,8` or `inf,8` as numbers. Raises UsageError on anything that is no epsilon above 0."""
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = ()
    if not values or any(not value > 0 for value in values):
        raise UsageError(
            "--eps",
            "numbers above 0 with commas between, such as 1,4,8",
            text,
            "write inf for the non-private arm",
        )
    return values


def _ladder(epsilons: tuple[float, ...], baseline: bool) -> list[float]:
    return sorted({*epsilons, *((math.inf,) if baseline else ())}, reverse=True)


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = data[parent] = {} if data.get(parent) is None else data[parent]
        if not isinstance(inner, dict):
            raise UsageError(f"--set {key}", f"{parent} to hold keys", kind_of(inner))
        data = inner
    data[last] = value


def _get(data: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        data = data[part]
    return data


def _drop(data: dict[str, Any], keys: Iterable[str]) -> None:
    """Takes dotted keys out of nested mappings, where they are there."""
    for key in keys:
        *parents, last = key.split(".")
        inner: Any = data
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)


def _finite(value: Any) -> Any:
    """JSON has no infinity: it is kept as the text "inf", which `build` reads back as a number."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise BadValue(name, f"at least {least}", value)


def _above_zero(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise BadValue(name, "a number above 0", value)


def _between(low: float, high: float, **values: float) -> None:
    """Holds low <= value < high; a NaN is outside."""
    for name, value in values.items():
        if not low <= value < high:
            raise BadValue(name, f"at least {low} and below {high}", value)


def path_or_builtin(source: str) -> Path | None:
    """The path that a data source names; None for `builtin:clinic`."""
    return None if source.startswith("builtin:") else Path(source)
