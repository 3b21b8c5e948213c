"""The plan that a run keeps: a suite with its seeds, and the part of it that training depends on."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dpaudit.data import canary
from dpaudit.errors import UsageError
from dpaudit.schema import build
from dpaudit.suite.loading import drop, finite, get, put
from dpaudit.suite.suite import Suite

REPRODUCIBLE = "epsilon not claimed: the noise is reproducible"
ASSUMED_PUBLIC = "epsilon covers this run only: what it started from has no ledger and was taken for public"
RANDOM_WEIGHTS = (
    "the base's weights are random: memory and time are measured, scores and quality mean nothing"
)
CORPUS_WORDS = "epsilon does not cover the words that canaries take from the corpus (candidates.family)"
PLAN_FORMAT = 2  # 1 held all of the suite
# The settings of a run beside its training: record -> keys of the suite. All other keys are the
# plan, and a change of them is another run; whatever training depends on must be among those.
RECORDS: dict[str, tuple[str, ...]] = {
    "evaluation": ("evaluation",),
    "judging": ("judging",),
    "claims": ("claims",),
    "attacks": ("attacks", "shadows"),
    "release": ("release",),
    "placement": (
        "training.micro_batch",
        "training.gradient_checkpointing",
        "training.checkpoint_every",
        "training.tensorboard",
        "model.shape",
    ),
    "description": ("description", "data.languages", "data.dates"),
}


@dataclass(frozen=True)
class Repeated:
    """A run that trained the same plan before, with coins of its own."""

    run: str
    commitment: str | None  # of its plan, recipes and coins


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
    repeats: tuple[Repeated, ...] = ()  # the runs that this one repeats with fresh coins, oldest first

    @property
    def caveat(self) -> str | None:
        """The caveat to print beside every figure of the run; None without one."""
        caveats = [REPRODUCIBLE] if self.insecure_seed is not None else []
        if self.suite.model.start and self.suite.model.assume_public:
            caveats.append(ASSUMED_PUBLIC)
        if self.suite.candidates.family in canary.CORPUS_FAMILIES:
            caveats.append(CORPUS_WORDS)
        if self.suite.model.is_random:
            caveats.append(RANDOM_WEIGHTS)
        return "; ".join(caveats) or None

    def to_json(self) -> dict[str, Any]:
        """What training depends on, as plan.json holds it."""
        values = dict(finite(asdict(self)))
        if not self.repeats:
            del values["repeats"]
        drop(values["suite"], [key for keys in RECORDS.values() for key in keys])
        return {"format": PLAN_FORMAT, **values}

    @classmethod
    def from_json(cls, data: dict[str, Any], file: str = "plan.json") -> "Plan":
        """The plan that `to_json` wrote; what it leaves out has its defaults. Raises UsageError for one of
        another version.
        """
        if data.get("format") != PLAN_FORMAT:
            raise UsageError(
                file,
                "a plan as this version of dpaudit writes it",
                "a plan of another version",
                "continue with the version that began the run; to train again is a second release on the "
                "same records",
            )
        return build(cls, {key: value for key, value in data.items() if key != "format"}, file=file)

    def trains_as(self, written: dict[str, Any]) -> bool:
        """Whether another plan.json, of whatever version, is this very training but for versions and the
        primary recipe.

        Raises UsageError for one with keys that are unknown by now.
        """
        values = {key: value for key, value in written.items() if key != "format"}
        other = build(Plan, values, file="plan.json")
        mine, theirs = (replace(plan, versions={}, primary_digest=None).to_json() for plan in (self, other))
        del mine["suite"]["primary"], theirs["suite"]["primary"]
        return bool(mine == theirs)

    def settings(self, record: str) -> dict[str, Any]:
        """The suite's settings for one of RECORDS: dotted key -> value."""
        values = finite(asdict(self.suite))
        return {key: get(values, key) for key in RECORDS[record]}

    def with_settings(self, settings: dict[str, Any], file: str) -> "Plan":
        """This plan with other values of dotted keys. Raises UsageError that names `file` where they do not
        fit.
        """
        values = finite(asdict(self.suite))
        for key, value in settings.items():
            put(values, key, value)
        return replace(self, suite=build(Suite, values, file=file))

    @property
    def of_training(self) -> "Plan":
        """The part that stages of training may see: plan.json, and where and how its steps are computed; all
        else at its default.
        """
        return Plan.from_json(self.to_json()).with_settings(self.settings("placement"), "plan.json")
