"""The settings of a suite: frozen dataclasses that mirror suites/*.yaml key by key."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dpaudit.data.columns import is_unicode
from dpaudit.errors import BadValue
from dpaudit.privacy.claim import Claim, Relation, Unit
from dpaudit.schema import above_zero, at_least, between
from dpaudit.suite import checks
from dpaudit.suite.grid import Grid

AttackKind = Literal["mia", "extract", "preference"]
RANDOM = "random:"  # begins a base of random weights: random:SHAPE
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # it becomes the name of a folder


@dataclass(frozen=True)
class Model:
    base: str = "builtin:tiny"  # builtin:tiny, a Hugging Face folder, a hub id, or random:SHAPE
    max_length: int = 96  # tokens; what is longer is truncated and counted
    pair_prompt: int | None = None  # of a preference pair, at most so many last tokens of the prompt ...
    pair_answer: int | None = None  # ... and first tokens of each answer
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the frozen weights
    quantization: Literal["nf4"] | None = None  # of the frozen base, with double quantization
    attention: str | None = None  # attn_implementation, such as flash_attention_2; None: the library's choice
    start: str | None = None  # an adapter to continue from: a run's train/ARM, or a folder with a ledger
    assume_public: bool = False  # takes a start without a ledger for public; the page says so
    shape: dict[str, int] = field(default_factory=dict)  # of a Llama that is not here; for `plan`

    @property
    def is_random(self) -> bool:
        """Whether its weights are random: memory and time are measured, and nothing else means anything."""
        return self.base.startswith(RANDOM)

    def __post_init__(self) -> None:
        at_least(2, max_length=self.max_length)
        at_least(1, pair_prompt=self.pair_prompt, pair_answer=self.pair_answer)


@dataclass(frozen=True)
class Data:
    source: str = "builtin:clinic"  # or a JSONL file
    preference: str | None = None  # pairs: builtin:clinic, a file, faults (planted in answers), or none
    text: str | None = None  # plain text for continued pretraining: builtin:clinic, a file, or none
    rows: str | None = None  # A:B keeps rows A to B of the source, counted from 0
    patients: int = 4000  # builtin:clinic only
    heldout: int = 300  # records kept for held-out quality; no arm trains on them
    limit: int | None = None  # at most so many records of a file
    languages: str | None = None  # of the records, in your words: for the page
    dates: str | None = None  # that the records are of, in your words: for the page

    def __post_init__(self) -> None:
        at_least(1, patients=self.patients, limit=self.limit)
        at_least(0, heldout=self.heldout)
        for key in ("source", "preference", "text"):
            if not is_unicode(getattr(self, key) or ""):
                raise BadValue(key, "a name in UTF-8", "a name with other bytes", "rename the file")


@dataclass(frozen=True)
class Candidates:
    """Units whose membership a coin decides. Extraction canaries: half planted, half controls."""

    family: str = "record_number"  # of secrets: `dpaudit list families`
    canaries: int = 500  # planted for membership: each in or out by a fair coin
    canary_length: int = 6  # symbols in the secret of a membership canary
    canary_repetitions: int = 1  # its dialogues; more than one under unit patient alone: there one unit
    records: int = 300  # real units whose membership a coin decides, beside the canaries
    extraction: int = 64  # secrets that extraction looks for: half planted, half not
    extraction_length: int = 4  # symbols in the secret of an extraction canary
    extraction_repetitions: int | tuple[int, ...] = 4  # copies; in a list, each level has an equal share
    temperature: float = 1.5  # of the base model's samples, family synthetic
    # canaries along axes of the weights, in private arms: they show noise, clip and sampler at work
    gradient: int | Literal["auto"] = "auto"  # auto: as many as the claims need; 0: none

    def __post_init__(self) -> None:
        at_least(0, canaries=self.canaries, records=self.records, extraction=self.extraction)
        if self.gradient != "auto" and self.gradient:
            at_least(100, gradient=self.gradient)
        at_least(1, canary_length=self.canary_length, canary_repetitions=self.canary_repetitions)
        at_least(1, extraction_length=self.extraction_length)
        above_zero(temperature=self.temperature)
        checks.check_canaries(self.family, self.canary_repetitions, self.extraction, self.levels)

    @property
    def levels(self) -> tuple[int, ...]:
        """The numbers of copies that extraction canaries have."""
        copies = self.extraction_repetitions
        return (copies,) if isinstance(copies, int) else copies


@dataclass(frozen=True)
class Lora:
    rank: int = 8  # columns of A and B
    alpha: int = 16  # the update is scaled by alpha / rank
    dropout: float = 0.0  # on what goes into A
    rslora: bool = False  # alpha / sqrt(rank) in place of alpha / rank
    targets: str | tuple[str, ...] = "all-linear"  # all-linear, or names of layers

    def __post_init__(self) -> None:
        at_least(1, rank=self.rank, alpha=self.alpha)
        between(0, 1, dropout=self.dropout)


@dataclass(frozen=True)
class Schedule:
    """How one kind of arm steps. `batch` is the expected number of units a step."""

    batch: int  # units a step, in expectation
    steps: int  # of the optimizer
    learning_rate: float  # the highest
    warmup: float = 0.05  # share of the steps over which the rate rises
    decay: Literal["constant", "cosine", "linear"] = "linear"  # how the rate falls after that
    weight_decay: float = 0.0  # of AdamW's kind
    optimizer: Literal["adamw", "sgd"] = "adamw"  # adamw, or sgd with momentum
    momentum: float = 0.0  # sgd only

    def __post_init__(self) -> None:
        between(0, 1, momentum=self.momentum)
        at_least(1, batch=self.batch, steps=self.steps)
        above_zero(learning_rate=self.learning_rate)
        between(0, 1, warmup=self.warmup, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Training:
    private: Schedule  # of private arms
    nonprivate: Schedule  # of arms without noise
    steps: int | None = None  # of every arm, in place of its schedule's
    dpo_private: Schedule | None = None  # of private DPO arms, which need one
    dpo_nonprivate: Schedule | None = None  # of DPO arms without noise
    cpt_private: Schedule | None = None  # of private arms on plain text, which need one
    cpt_nonprivate: Schedule | None = None  # of those without noise
    dpo_beta: float | None = None  # None: the loss's published value
    dpo_label_smoothing: float | None = None  # None: the loss's published value
    unit: Unit = "patient"  # what a claim hides: patient, record, pair or label
    relation: Literal["add_or_remove"] = "add_or_remove"  # with one unit, or without
    delta: float = 1e-5  # of every claim
    clip: float = 1.0  # largest L2 norm of a unit's gradient
    population: int | None = None  # public number of units; None: the count is used and the page names it
    records_per_patient: int | None = None  # at most so many of one patient's records; None: all
    micro_batch: int = 256  # sequences in one forward pass; never changes the step
    coupled_pairs: int = (
        128  # of a loss that couples pairs (KTO, AOT): how many it sees at once, at most; changes the loss
    )
    gradient_checkpointing: bool = False  # recomputes activations: less memory, the same step
    checkpoint_every: int = 50  # at most so many steps between two snapshots of an arm
    tensorboard: bool = False  # also writes each step's loss and rates to RUN/tensorboard, for TensorBoard
    deepspeed: Literal["zero1"] | None = None  # non-private DPO arms only, by TRL
    allow_delta: bool = False  # lets delta be 1 / population or above
    lora: Lora = field(default_factory=Lora)  # the adapter

    @property
    def claimed_delta(self) -> float:
        return 0.0 if self.unit == "label" else self.delta  # randomised response needs none

    @property
    def claimed_relation(self) -> Relation:
        return "replace" if self.unit == "label" else self.relation

    def __post_init__(self) -> None:
        above_zero(delta=self.delta, clip=self.clip)
        if self.dpo_beta is not None:
            above_zero(dpo_beta=self.dpo_beta)
        between(0, 1, delta=self.delta, dpo_label_smoothing=self.dpo_label_smoothing or 0.0)
        at_least(
            1, population=self.population, micro_batch=self.micro_batch, coupled_pairs=self.coupled_pairs
        )
        at_least(1, records_per_patient=self.records_per_patient, checkpoint_every=self.checkpoint_every)
        at_least(1, steps=self.steps)


@dataclass(frozen=True)
class Task:
    """One benchmark: an lm-eval task name, or a YAML of suites/tasks/ with the file that holds its items; and
    how it alone is asked. None: as `evaluation` says of all.
    """

    name: str  # of suites/tasks/, or of lm-eval
    data: str | None = None  # builtin:clinic, a JSONL file, or none for a task that brings its own
    limit: int | None = None  # of items; None: that of `evaluation`
    fewshot: int | None = None  # None: that of `evaluation`
    chat_template: bool | None = None  # None: that of `evaluation`

    def __post_init__(self) -> None:
        at_least(0, fewshot=self.fewshot)
        at_least(1, limit=self.limit)


MARGIN = 0.05  # of accuracy, where the suite names none


@dataclass(frozen=True)
class Evaluation:
    tasks: tuple[Task, ...] = ()  # benchmarks, each with its items
    limit: int | None = None  # at most so many items of a benchmark; None: all
    margin: float | None = None  # the loss of accuracy that would matter; None: MARGIN, and the page says so
    batch: int = 64  # requests in one forward pass
    fewshot: int | None = None  # worked examples before each item; None: as the task says
    chat_template: bool = True  # prompts as in training; false: as lm-eval asks a plain model

    def __post_init__(self) -> None:
        at_least(0, fewshot=self.fewshot)
        at_least(1, limit=self.limit, batch=self.batch)
        if self.margin is not None and not 0 < self.margin < 1:
            raise BadValue("margin", "a share above 0 and below 1", f"{self.margin:g}", "5 points are 0.05")

    @property
    def loss_tested(self) -> float:
        """The margin in force."""
        return MARGIN if self.margin is None else self.margin


# the non-private arm; the base; of a DPO arm what it started from, and dialogues alone at the same claim; the
# next larger epsilon
AGAINST = ("inf", "base", "start", "sft", "rung")


BACKENDS = HF, VLLM = "hf", "vllm"  # Transformers; an engine for batches (docs/generate.md)


@dataclass(frozen=True)
class Judging:
    rubric: str = "likelihood"  # a file of judges/
    model: str | None = None  # in place of the rubric's: a folder, a hub id, or `base` for the run's own base
    prompts: int = 100  # at most so many are judged
    criteria: str | None = None  # a file of prompts with criteria of their own, in place of held-out prompts
    # tokens of an answer; auto: as the reference answers of public prompts have, else a default that is told
    max_new_tokens: int | Literal["auto"] = "auto"
    backend: Literal["hf", "vllm"] = "hf"  # which of BACKENDS writes the answers
    against: tuple[str, ...] = AGAINST  # what each arm is compared with: some of AGAINST, and names of arms
    public: bool | None = (
        None  # whether prompts and their answers may be shown; None: those of the clinic may
    )
    parallel: int = 8  # requests to a server at a time
    max_tokens_total: int | None = None  # that a server may take in all; None: as many as it needs

    def __post_init__(self) -> None:
        at_least(1, prompts=self.prompts, parallel=self.parallel)
        if self.max_new_tokens != "auto":
            at_least(1, max_new_tokens=self.max_new_tokens)
        at_least(1, max_tokens_total=self.max_tokens_total)


@dataclass(frozen=True)
class Declared:
    """An entry under `claims`: the privacy that an arm is claimed to have, which `dpaudit verify --run`
    checks.
    """

    arm: str  # of this grid
    epsilon: float  # claimed
    delta: float  # claimed
    unit: Unit  # that of `training`
    relation: Relation  # that of `training`

    def __post_init__(self) -> None:
        between(0, math.inf, epsilon=self.epsilon)
        between(0, 1, delta=self.delta)

    @property
    def claim(self) -> Claim:
        return Claim(self.epsilon, self.delta, self.unit, self.relation)


@dataclass(frozen=True)
class Release:
    """What an adapter must show before the page says that it may be released, besides a claim that stands."""

    epsilon: float = 3.0  # the largest that promises one person something by itself

    def __post_init__(self) -> None:
        between(0, math.inf, epsilon=self.epsilon)


@dataclass(frozen=True)
class Suite:
    name: str  # letters, digits, . _ -; runs are called after it
    training: Training  # how arms learn, and what is private
    description: str = ""  # one sentence
    model: Model = field(default_factory=Model)  # the base
    data: Data = field(default_factory=Data)  # what is learned from
    candidates: Candidates = field(default_factory=Candidates)  # units whose membership a coin decides
    grid: Grid = field(default_factory=Grid)  # which arms are trained
    attacks: tuple[AttackKind, ...] = ("mia", "extract")  # kinds of attack that `run` makes
    shadows: int = 0  # shadow models an arm, for the recipes that compare with them; even
    primary: str = "calibrated"  # the one recipe that verdicts come from, registered before the run
    evaluation: Evaluation = field(default_factory=Evaluation)  # benchmarks
    judging: Judging | None = field(default_factory=Judging)  # pairwise comparisons; null: none
    claims: tuple[Declared, ...] = ()  # what `verify --run` checks
    release: Release = field(default_factory=Release)  # when an adapter may be released

    @property
    def has_public_prompts(self) -> bool:
        """Whether prompts of a judge, and what is answered to them, may stand in a report."""
        declared = self.judging.public if self.judging else None
        return self.data.source == "builtin:clinic" if declared is None else declared

    def __post_init__(self) -> None:
        _check_claims(self)
        checks.check_twin(self.grid)
        checks.check_against(self.judging.against if self.judging else (), self.grid, AGAINST)
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


def _check_claims(suite: Suite) -> None:
    names = [arm.name for arm in suite.grid.arms if not arm.twin] if suite.claims else []
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


def path_or_builtin(source: str) -> Path | None:
    """The path that a data source names; None for `builtin:clinic`."""
    return None if source.startswith("builtin:") else Path(source)
