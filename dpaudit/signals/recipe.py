"""Attack recipes: frozen dataclasses that mirror attacks/*.yaml key by key. Every decision is made before a
score is read.
"""

import difflib
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dpaudit import content
from dpaudit.errors import BadValue, UsageError
from dpaudit.schema import build
from dpaudit.signals.extraction import MEASURES
from dpaudit.signals.text import SIGNALS, Signal
from dpaudit.suite.suite import Candidates, Suite

Kind = Literal["mia", "extract", "preference"]
Access = Literal["generation", "logprobs", "distribution", "weights"]
ACCESS = {
    "generation": "what the model writes",
    "logprobs": "the log-probability of any text",
    "distribution": "all next-token probabilities",
    "weights": "the weights",
}
FITTED_LEAST = 80  # canaries: twenty on either side of the coin, but for one draw in a million
MOST_CANARIES = 10**6
CALIBRATED = ("loss", "zlib", "min_k")  # signals that a reference model alone has as well
REFERENCES = ("none", "base", "start", "shadows")  # or a model's folder


@dataclass(frozen=True)
class Guess:
    """Which coins the attacker guesses: a `fraction` of the canaries, fixed beforehand. It abstains on the
    rest.

    `in`: the highest scores, as members. `both`: half of them the highest, as members, and half the lowest,
    as non-members; for attacks that recognise an excluded canary as surely as an included one.
    """

    side: Literal["in", "both"]  # in, or both
    fraction: float  # of the canaries that count

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise BadValue("fraction", "a number in (0, 1]", f"{self.fraction:g}")

    def count(self, canaries: int) -> int:
        """The number of guesses, fixed by the number of canaries alone."""
        return math.floor(self.fraction * canaries + 1e-9)

    def sides(self, canaries: int) -> tuple[int, int]:
        """How many of them are guessed in, and how many out."""
        guesses = self.count(canaries)
        out = guesses // 2 if self.side == "both" else 0
        return guesses - out, out


@dataclass(frozen=True)
class Bound:
    """How a lower bound on epsilon is made from the scores."""

    method: Literal["one-run"]  # Steinke, Nasr, Jagielski 2023
    guess: Guess  # which coins are guessed
    confidence: float  # of the bound, one-sided

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise BadValue("confidence", "a number in [0.5, 1)", f"{self.confidence:g}")


@dataclass(frozen=True)
class Recipe:
    """One attack. `signal` is a key of SIGNALS for kinds `mia` and `preference`, of MEASURES for kind
    `extract`.
    """

    name: str  # that of its file
    title: str  # one line
    kind: Kind  # mia, extract or preference
    access: Access  # what the attacker sees of the audited model
    signal: str  # what is computed of a text
    unit: Literal["claimed"]  # the unit whose membership is guessed: the one that the run's claim names
    direction: Literal["higher"]  # a higher score = more likely a member
    minimum_canaries: int  # with fewer it is not asked
    cost: str  # in words
    source: str  # the paper
    parameters: dict[str, Any] = field(default_factory=dict)  # of the signal
    bound: Bound | None = None  # none: the attack describes and proves nothing
    reference: str = "none"  # compared with: base, the arm's start (start), shadows, a model's folder
    calibration: Literal["none", "residual"] = "none"  # of the length and the reference: see `calibration`

    def __post_init__(self) -> None:
        known = sorted(signals_of(self.kind))
        if self.signal not in known:
            near = difflib.get_close_matches(self.signal, known, n=1)
            raise BadValue(
                "signal",
                f"one of {', '.join(known)} for kind {self.kind}",
                f"{self.signal!r:.40}",
                f"did you mean {near[0]}?" if near else "",
            )
        if (self.reference == "shadows") != (self.least_shadows > 0):
            fitting = "shadows" if self.least_shadows else "a reference other than shadows"
            raise BadValue("reference", f"{fitting} for signal {self.signal}", f"{self.reference:.40}")
        needed = getattr(signals_of(self.kind)[self.signal], "access", "logprobs")
        if self.access not in sufficient(needed):
            raise BadValue(
                "access",
                f"{' or '.join(sufficient(needed))} for signal {self.signal}",
                self.access,
            )
        if self.minimum_canaries > MOST_CANARIES:
            raise BadValue("minimum_canaries", f"at most {MOST_CANARIES:,}", "a larger number")
        least = 0 if self.kind == "extract" else 1  # real records may be tried without any canary
        if self.bound is not None and not self.bound.guess.count(self.minimum_canaries):
            raise BadValue(
                "bound.guess.fraction",
                f"a fraction that guesses at least one of minimum_canaries ({self.minimum_canaries})",
                f"{self.bound.guess.fraction:g}",
            )
        if self.kind == "extract" and (self.bound is not None or self.reference != "none"):
            raise BadValue(
                "bound" if self.bound else "reference",
                f"{'no bound' if self.bound else 'none'} for kind extract, which counts extracted secrets",
                "a bound" if self.bound else self.reference,
            )
        if self.minimum_canaries < least:
            raise BadValue("minimum_canaries", f"at least {least}", self.minimum_canaries)
        self._check_calibration()

    def _check_calibration(self) -> None:
        """Raises BadValue for a residual of a signal that a reference alone does not have."""
        if self.calibration == "none":
            return
        if self.signal not in CALIBRATED:
            known = ", ".join(CALIBRATED)
            raise BadValue("calibration", f"none, or a signal among {known}", f"signal {self.signal}")

    @property
    def digest(self) -> str:
        """Names the recipe's content: scores made under another digest are out of date.

        A key that stands at its default does not count, so that a key which is new to dpaudit changes no
        recipe.
        """
        values = asdict(self)
        stated = {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}
        parts = [stated, *(recipe.digest for recipe in self.components())]
        text = json.dumps(parts if len(parts) > 1 else parts[0], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def needs_heldout(self) -> bool:
        """Whether it compares with records that no arm trained on."""
        own = getattr(signals_of(self.kind)[self.signal], "heldout", False)
        return own or any(part.needs_heldout for part in self.components())

    @property
    def threat(self) -> str:
        """The attacker's needs, in words."""
        beside = {
            "none": "",
            "base": ", the base model",
            "start": ", the model that the arm started from",
            "shadows": f", the data and {self.least_shadows} or more trainings of its own",
        }
        return ACCESS[self.access] + beside.get(self.reference, f", the model {Path(self.reference).name}")

    def components(self) -> "list[Recipe]":
        """The recipes that a combination is made of; of any other recipe, none."""
        return (
            [load(name) for name in self.parameters.get("recipes", ())]
            if self.signal == "combination"
            else []
        )

    @property
    def least_shadows(self) -> int:
        """How many shadow models the signal needs; 0 where it needs none."""
        return int(getattr(signals_of(self.kind)[self.signal], "least_shadows", 0))

    def make_signal(self, file: str = "") -> Signal:
        """The signal with the recipe's parameters. Raises UsageError naming `file` and key for bad ones."""
        made: Signal = build(
            signals_of(self.kind)[self.signal], self.parameters, file=file or self.name, key="parameters"
        )
        return made


def sufficient(needed: str) -> list[str]:
    """The kinds of access that give at least what `needed` gives. A recipe that names less would understate
    the attacker's cost.
    """
    kinds = list(ACCESS)  # from the least to the most
    return kinds[kinds.index(needed) :]


def signals_of(kind: Kind) -> dict[str, type[Any]]:
    """The signals that recipes of a kind may name."""
    if kind == "extract":
        return MEASURES
    return {name: made for name, made in SIGNALS.items() if made.kind == kind}


def load(name: str, own: Path | None = None) -> Recipe:
    """The recipe called `name` (a file, or a name of `attacks/`). Raises UsageError with file and key."""
    path = content.find("attacks", name, own)
    recipe = build(Recipe, content.load_yaml(path), file=str(path))
    if recipe.name != path.stem:
        raise UsageError(f"{path}: name", path.stem, recipe.name, "name the recipe as its file")
    recipe.make_signal(str(path))
    _check_reference(recipe, str(path))
    _check_components(recipe, path, own)
    return recipe


def _check_components(recipe: Recipe, path: Path, own: Path | None) -> None:
    """Raises UsageError for recipes that cannot be combined; a part's own parts are not read, so that a
    recipe that names itself ends too.
    """
    if recipe.signal != "combination":
        return
    where = f"{path}: parameters.recipes"
    known = content.listing("attacks", own)
    for name in recipe.parameters.get("recipes", ()):
        if name not in known:
            raise UsageError(where, f"some of {', '.join(sorted(known))}", f"{name!s:.40}")
        if content.load_yaml(known[name]).get("signal") == "combination":
            raise UsageError(where, "recipes other than combinations", name)
        part = load(name, own)
        if part.kind != recipe.kind:
            raise UsageError(where, f"recipes of kind {recipe.kind}", f"{name}, of kind {part.kind}")
        if recipe.access not in sufficient(part.access):
            raise UsageError(
                f"{path}: access",
                f"{' or '.join(sufficient(part.access))} for its part {name}",
                recipe.access,
            )
        if part.calibration != "none":
            raise UsageError(where, "recipes without calibration, since the fit weighs them", name)
        if part.reference not in ("none", recipe.reference):
            raise UsageError(
                where,
                f"recipes whose reference is none or {recipe.reference}",
                f"{part.name}, which has reference {part.reference}",
                "name another recipe, or the reference",
            )
    if recipe.signal == "combination":
        least = recipe.minimum_canaries * float(recipe.parameters.get("share", 0.5))
        if least < FITTED_LEAST:
            raise UsageError(
                f"{path}: minimum_canaries",
                f"enough canaries to fit on {FITTED_LEAST}",
                f"{recipe.minimum_canaries}, of which {least:g} are fitted on",
                "raise it, or parameters.share",
            )


def _check_reference(recipe: Recipe, file: str) -> None:
    """Raises UsageError where the reference is neither one of REFERENCES nor a model's folder, or the signal
    needs another one.
    """
    wanted = getattr(signals_of(recipe.kind)[recipe.signal], "reference", None)
    where, named = f"{file}: reference", recipe.reference
    if named not in REFERENCES and not _is_model(named):
        raise UsageError(
            where,
            f"one of {', '.join(REFERENCES)}, or a model's folder with config.json",
            named,
            "write `base` for the model that was fine-tuned",
        )
    if wanted == "model" and named in ("none", "shadows"):
        raise UsageError(
            where,
            f"base, start or a model's folder for signal {recipe.signal}",
            named,
            "write `base` for the model that was fine-tuned",
        )


def _is_model(folder: str) -> bool:
    try:
        return (Path(folder) / "config.json").is_file()
    except (OSError, ValueError):  # not a valid path
        return False


def load_all(
    kind: Kind | None = None, names: Iterable[str] | None = None, own: Path | None = None
) -> list[Recipe]:
    """The named recipes, or every one in the shipped and the user's own folder; only those of `kind` if
    given.
    """
    chosen = sorted(content.listing("attacks", own)) if names is None else list(names)
    recipes = [load(name, own) for name in chosen]
    return [recipe for recipe in recipes if kind is None or recipe.kind == kind]


def check_candidates(suite: Suite) -> None:
    """Raises UsageError where the suite has too few canaries for its attacks, or no recipe that verdicts can
    come from.

    Called before anything is written. A recipe of kind mia or preference that is not the primary one is left
    out where it lacks canaries, and so are those of kind extract that need canaries where the suite has none
    for extraction; see `lacks`.
    """
    primary, only_pairs = load(suite.primary), all(arm.method == "dpo" for arm in suite.grid.arms)
    if primary.bound is None or primary.kind not in (("mia", "preference") if only_pairs else ("mia",)):
        raise UsageError(
            "primary",
            "a recipe with a bound, of kind mia (or preference, where all arms are DPO arms)",
            suite.primary,
            "--set primary=calibrated",
        )
    if primary.least_shadows:
        raise UsageError(
            "primary",
            "a recipe that needs no shadow models, because their number is not fixed before training",
            suite.primary,
            "--set primary=calibrated",
        )
    wanted = [primary, *(load_all("extract") if suite.candidates.extraction else ())]
    check_minimum([r for r in wanted if r.kind in suite.attacks], suite.candidates)


def lacks(recipe: Recipe, candidates: Candidates) -> str | None:
    """What a recipe needs and these candidates lack; None where nothing is missing."""
    available = candidates.extraction if recipe.kind == "extract" else candidates.canaries
    return f"{recipe.minimum_canaries} canaries" if available < recipe.minimum_canaries else None


def check_minimum(recipes: Iterable[Recipe], candidates: Candidates) -> None:
    """Raises UsageError where a run has fewer canaries than a recipe asks for. Writes nothing."""
    for recipe in recipes:
        key = "extraction" if recipe.kind == "extract" else "canaries"
        if lacks(recipe, candidates):
            raise UsageError(
                f"candidates.{key}",
                f"at least {recipe.minimum_canaries} canaries for attacks/{recipe.name}.yaml",
                str(getattr(candidates, key)),
                f"train a run with --set candidates.{key}={recipe.minimum_canaries}",
            )
