"""A suite for a data file that was surveyed: every setting with its reason, and what to be warned of."""

import math
from dataclasses import dataclass
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.evidence import planned
from dpaudit.evidence.family import AXES_LEAST, SHARE_MOST, first_level
from dpaudit.evidence.release import SECRETS
from dpaudit.findings.answers import SHOWN
from dpaudit.pipeline.survey import EMBEDDED, Survey
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.stages.prepare.dialogues import CUT_MOST
from dpaudit.stages.prepare.prepare import CANARIES_MANY

EMBEDDED_LONGEST, LONGEST = 256, 512  # tokens that are proposed at most
WHOLE = 0.95  # of the records at the proposed length
FEW, MANY, MANY_FROM = 200, 500, 2000  # canaries; units from which there are many
AXES_FROM = AXES_LEAST * SHARE_MOST  # units, from which on a claim is tested from inside
COPIES, FEW_SECRETS = 4, 16  # of an extraction canary; such canaries, below AXES_FROM
EPSILONS = (3, 2)  # the larger claim: the first that so many canaries could test
SMALLER = 1  # the other one
DELTA = 1e-5
PRIMARY = "calibrated"
BY = {"patient": "patients", "record": "records"}


@dataclass(frozen=True)
class Wanted:
    """What the user declared; None: taken from the data."""

    source: str
    base: str = EMBEDDED
    unit: str | None = None
    max_length: int | None = None
    population: int | None = None
    languages: str | None = None

    @property
    def is_embedded(self) -> bool:
        return self.base == EMBEDDED


@dataclass(frozen=True)
class Setting:
    """A key of the suite. `instead` declares a public value for one that was computed from private data; it
    is empty for one that was not.
    """

    key: str  # dotted
    value: Any
    why: str
    instead: str = ""


@dataclass(frozen=True)
class Sizes:
    """The numbers that follow from how many units there are."""

    heldout: int
    records: int
    canaries: int
    extraction: int
    copies: int  # of an extraction canary, units of their own
    expected: int  # units trained on, canaries among them
    population: int  # as declared, else as expected

    @property
    def canary_share(self) -> float:
        """The share of canaries in what is expected to be trained on, from 0 to 1."""
        return (self.canaries + self.extraction * self.copies) / 2 / self.expected

    @property
    def batch(self) -> int:
        batch = max(1, min(256, self.population // 3))
        return batch - batch % 8 if batch > 8 else batch

    @property
    def delta(self) -> float:
        """At most a tenth of 1 / population."""
        return min(DELTA, 10.0 ** -math.ceil(math.log10(self.population) + 1))


@dataclass(frozen=True)
class Draft:
    """`settings` in the order of the file."""

    wanted: Wanted
    survey: Survey
    unit: str
    max_length: int
    sizes: Sizes
    settings: tuple[Setting, ...]


def draft(wanted: Wanted, survey: Survey) -> Draft:
    """The suite that is proposed. Raises UsageError for unit patient where rows name nobody."""
    unit, why_unit = _unit(wanted, survey)
    max_length, why_length = _max_length(wanted, survey)
    sizes = _sizes(wanted, survey, unit)
    settings = (
        *_of_model(wanted, max_length, why_length),
        *_of_data(wanted, survey, sizes, unit),
        *_of_training(wanted, sizes, unit, why_unit),
        *_of_stages(wanted, sizes, unit),
    )
    return Draft(wanted, survey, unit, max_length, sizes, settings)


def warnings(made: Draft) -> list[str]:
    """What a user should know before anything is trained."""
    found, survey = [], made.survey
    if made.unit == "record" and survey.patients:
        without = survey.records - survey.named
        rest = f"; {without:,} records name nobody, and unit patient needs a name in each" if without else ""
        found.append(
            f"the data name {survey.patients:,} patients: unit record hides one record, not a person{rest}"
        )
    elif made.unit == "record" and survey.people_columns:
        named = survey.people_columns[0]
        found.append(f"column {named} may name people and is not read: rename it patient_id to hide a person")
    if (cut := survey.cut(made.max_length)) > CUT_MOST:
        whole = survey.lost(made.max_length)
        lost = f" ({whole:.1%} their whole answer)" if whole else ""
        longer = f"--max-length N, up to {survey.window}" if survey.window else "--max-length N"
        way = f"a longer one ({longer}) takes more time and memory"
        if made.max_length == survey.window:
            way = "the model reads no longer ones: split them, or name another with --model"
        found.append(
            f"{cut:.1%} of the records have over {made.max_length} tokens and lose their end{lost}; {way}"
        )
    if (share := made.sizes.canary_share) > CANARIES_MANY:
        found.append(
            f"canaries are {share:.0%} of what is trained on, more than a fifth: quality figures will tell "
            "little; more data helps, fewer canaries prove less"
        )
    return found


def _unit(wanted: Wanted, survey: Survey) -> tuple[str, str]:
    without = survey.records - survey.named
    if wanted.unit == "patient" and without:
        raise UsageError(
            "--unit patient",
            "a patient for every record",
            f"no patient on {without:,} of {survey.records:,} records",
            "name patients in the data (patient_id), or type --unit record",
        )
    if wanted.unit is not None:
        return wanted.unit, "as declared"
    if not without:
        return "patient", f"{survey.patient_column} names a patient in every row: a person is hidden whole"
    if survey.named:
        return "record", "some rows name no patient, which unit patient would need"
    return "record", "no column patient_id or patient names people; unit patient hides a person whole"


def _max_length(wanted: Wanted, survey: Survey) -> tuple[int, str]:
    longest = survey.window or LONGEST
    if not wanted.is_embedded or survey.lost(EMBEDDED_LONGEST) <= CUT_MOST:
        longest = min(longest, EMBEDDED_LONGEST if wanted.is_embedded else LONGEST)
    fitting = max(64, 32 * math.ceil(survey.length(WHOLE) / 32))
    length = wanted.max_length or min(fitting, longest)
    if survey.window is not None and length > survey.window:
        raise UsageError("--max-length", f"at most {survey.window}, as long as the model reads", str(length))
    if wanted.max_length is not None:
        return length, "as declared; tokens"
    if fitting <= longest:
        return length, f"tokens; {WHOLE:.0%} of the records are whole at this length"
    return length, "tokens; the records are longer, and a longer one takes more time and memory"


def _sizes(wanted: Wanted, survey: Survey, unit: str) -> Sizes:
    """By the declared population; else by the counts of the data."""
    units = wanted.population or (survey.patients if unit == "patient" else survey.records)
    records = wanted.population or survey.records
    heldout = min(300, records // 6)
    left = units - math.ceil(heldout * units / records)
    flipped = min(300, left // 4)
    canaries = MANY if left >= MANY_FROM else FEW
    extraction = 2 * SECRETS if units >= AXES_FROM else FEW_SECRETS
    copies = COPIES if unit == "record" else 1
    expected = left - flipped + (flipped + canaries + extraction * copies) // 2
    return Sizes(heldout, flipped, canaries, extraction, copies, expected, wanted.population or expected)


def _of_model(wanted: Wanted, max_length: int, why_length: str) -> list[Setting]:
    embedded = "the embedded teaching model: a first look in minutes; --model DIR takes one of yours"
    measured = "" if wanted.max_length else "--max-length N"
    return [
        Setting("model.base", wanted.base, embedded if wanted.is_embedded else "as declared"),
        Setting("model.max_length", max_length, why_length, measured),
    ]


def _languages(wanted: Wanted, survey: Survey) -> Setting:
    if wanted.languages is not None:
        return Setting("data.languages", wanted.languages, "as declared: for the page")
    if survey.languages is None:
        return Setting("data.languages", None, "of the records, in your words: for the page, such as English")
    why = "of the records, told by their script and their commonest words: for the page"
    return Setting("data.languages", survey.languages, why, "--languages NAMES")


def _of_data(wanted: Wanted, survey: Survey, sizes: Sizes, unit: str) -> list[Setting]:
    counted = "" if wanted.population else "--population N"
    few = "words that lead on to each other: a small model learns them in a few epochs"
    kind = ("record_number", 6, 4) if wanted.is_embedded else ("invented", 8, 1)
    why = "short numbers, which the embedded model can learn" if wanted.is_embedded else few
    of = "digits" if wanted.is_embedded else "words"
    canaries = f"half of them go in; {MANY} from {MANY_FROM:,} {BY[unit]} on, else {FEW}: fewer prove less"
    axes = "canaries along axes of the weights, which test the noise: as many as the claims need, none below "
    axes += f"{AXES_FROM} {BY[unit]}"
    return [
        Setting("data.source", wanted.source, "the file, as seen from where the command is typed"),
        _languages(wanted, survey),
        Setting("data.heldout", sizes.heldout, "a sixth, at most 300, to measure quality on", counted),
        Setting("candidates.family", kind[0], why),
        Setting("candidates.canaries", sizes.canaries, canaries, counted),
        Setting("candidates.canary_length", kind[1], f"{of} of its secret"),
        Setting("candidates.records", sizes.records, f"{BY[unit]} with a coin, at most a quarter", counted),
        Setting(
            "candidates.extraction",
            sizes.extraction,
            f"half of them planted, to ask the secret back; a release needs {SECRETS}",
            counted,
        ),
        Setting("candidates.extraction_length", kind[2], f"{of} of its secret"),
        Setting("candidates.extraction_repetitions", COPIES, "copies of such a canary"),
        Setting("candidates.gradient", "auto", axes, counted),
    ]


def _of_training(wanted: Wanted, sizes: Sizes, unit: str, why_unit: str) -> list[Setting]:
    counted = "" if wanted.population else "--population N"
    unknown = f"{BY[unit]} are counted when training begins, and the page says so"
    delta = "far below 1 / population" + ("" if sizes.delta == DELTA else ", as the population is large")
    return [
        Setting("training.unit", unit, why_unit),
        Setting("training.relation", "add_or_remove", "a unit that is there against one that is not"),
        Setting("training.delta", sizes.delta, delta, counted if sizes.delta != DELTA else ""),
        Setting(
            "training.population",
            wanted.population,
            f"{BY[unit]}, as declared" if wanted.population else unknown,
            counted,
        ),
        Setting("training.clip", 0.05 if wanted.is_embedded else 1.0, "the most that a unit moves a step"),
        Setting(
            "training.micro_batch",
            4 if wanted.is_embedded else 8,
            "sequences in one pass: changes memory and time, no result",
        ),
        Setting(
            "training.lora", {"rank": 16, "alpha": 32, "targets": "all-linear"}, "the adapter that is trained"
        ),
        *_of_schedules(wanted, sizes, counted),
    ]


def _of_schedules(wanted: Wanted, sizes: Sizes, counted: str) -> list[Setting]:
    """How private arms step, and the one without noise."""
    rates = (0.02, 0.004) if wanted.is_embedded else (0.001, 0.0005)
    rate = "a usual one; trying several on the same data is covered by no epsilon"
    if wanted.is_embedded:
        batch, steps = 8, max(800, min(2400, sizes.population // 20 * 100))
        why_steps = "forty times through the data, 800 to 2,400: a small model needs many to learn"
    else:
        batch, steps = 16, max(60, min(1000, 3 * sizes.population // 16))
        why_steps = "three times through the data, 60 to 1,000"
    return [
        Setting(
            "training.private.batch",
            sizes.batch,
            "expected units a step: a third of the population, at most 256; a larger one drowns noise",
            counted,
        ),
        Setting(
            "training.private.steps",
            40 if wanted.is_embedded else 60,
            "more steps learn more, and need more noise",
        ),
        Setting("training.private.learning_rate", rates[0], rate),
        Setting("training.nonprivate.batch", batch, "a usual one, of the arm without noise"),
        Setting("training.nonprivate.steps", steps, why_steps, counted),
        Setting("training.nonprivate.learning_rate", rates[1], "a usual one"),
    ]


def _epsilon(sizes: Sizes, unit: str) -> int:
    """The larger claim."""
    primary, level = recipe.load(PRIMARY), first_level(2)

    def is_shown(epsilon: int) -> bool:
        claim = Claim(epsilon, sizes.delta, "patient" if unit == "patient" else "record", "add_or_remove")
        return planned.power_at_most(sizes.canaries, primary, claim, level) >= SHOWN

    return next(filter(is_shown, EPSILONS), EPSILONS[-1])


def _of_stages(wanted: Wanted, sizes: Sizes, unit: str) -> list[Setting]:
    epsilon, counted = _epsilon(sizes, unit), "" if wanted.population else "--population N"
    epsilons = "one adapter each"
    if epsilon < EPSILONS[0]:
        epsilons += f"; guesses on so few canaries could not test a claim of {EPSILONS[0]} from outside"
    return [
        Setting("grid.epsilons", [epsilon, SMALLER], epsilons, counted),
        Setting(
            "grid.baseline", True, "the arm without noise shows what an attack can find; never release it"
        ),
        Setting("attacks", ["mia", "extract"], "who was in, and which secrets come out"),
        Setting("primary", PRIMARY, "the recipe that verdicts come from, named before training"),
        Setting(
            "evaluation.tasks", [], "benchmarks: dpaudit eval --task NAME=FILE adds one to the finished run"
        ),
        Setting(
            "judging",
            None,
            "no judge: dpaudit judge --rubric NAME adds one to the finished run (docs/judges.md)",
        ),
        Setting(
            "claims", [], "each private arm's own epsilon is tested; write here what else is claimed of it"
        ),
    ]
