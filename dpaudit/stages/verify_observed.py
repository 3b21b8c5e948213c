"""Stage verify of a training that `dpaudit.observe` watched: the mechanism test, the one-run bound and every
check of conformance, in one verdict a claim.

The trainer's own program kept the record, so slips are found, and no liar.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpaudit import __version__
from dpaudit.errors import UsageError
from dpaudit.evidence import claims, family, mechanisms, questions, whitebox
from dpaudit.evidence.verdict import rounded_down
from dpaudit.findings.answers import Answered
from dpaudit.findings.inside import Caught, Check, Inside, MechanismTest, OneRun
from dpaudit.findings.observed import ObservedVerification, Watched
from dpaudit.observing import keys, record
from dpaudit.observing.keys import ObservedKey
from dpaudit.observing.record import Record
from dpaudit.page import observed, render
from dpaudit.planting import audit_key
from dpaudit.privacy.accountants import DELTA_SMALLEST
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stages.verify_folder import ANOTHER, FILE, OUT, PAGE
from dpaudit.storage import custody, exclusive, whole_files
from dpaudit.system.progress import Progress

ARM = "the observed training"
PRESUMES = "that the trainer's own program kept the record as it was: slips are found, no liar"
NOTHING = Caught(0.0, math.inf, 0.0)
NO_TEST = "not tested: no step passed a clip, so that no canary could be planted"
MORE = "observe with more axes (axes=N), or train for more steps"


@dataclass(frozen=True)
class Request:
    """What one call asks of one record."""

    seen: Path
    key_file: Path
    claims: tuple[Claim, ...]
    mechanism: Mechanism
    out: Path = OUT
    commitment: str | None = None  # as it was noted down


@dataclass(frozen=True, eq=False)
class Checked:
    """A request whose record and key belong together."""

    request: Request
    key: ObservedKey
    seen: Record
    noted_before: str


def check(request: Request) -> Checked:
    """Raises UsageError in one line for a record or key that cannot be read, a key of another training, a
    claim that cannot be tested, and a folder that holds another result.
    """
    key, seen = keys.load(request.key_file), record.load(request.seen)
    if seen.about.commitment != key.commitment:
        raise UsageError(
            f"--key {request.key_file}",
            f"the key of {request.seen}",
            "the key of another training",
            "give the key and the record of one dpaudit.observe",
        )
    counts = (seen.about.rows, seen.about.axes, seen.about.included)
    if counts != (key.rows, len(key.coins), sum(key.coins)):
        got = "one whose rows or canaries are others"
        raise UsageError(f"--observed {request.seen}", "the record of this key", got, "copy it again")
    if not key.coins:
        raise UsageError(f"--observed {request.seen}", "canaries along axes", "a training with 0 axes", MORE)
    if unlikely := audit_key.unfair(key.coins):
        raise UsageError(f"--key {request.key_file}", "independent fair coins", unlikely, "observe anew")
    for claim in request.claims:
        _check_claim(claim)
    if len(set(request.claims)) < len(request.claims):
        raise UsageError("--claim", "each claim once", "one twice", "leave one out")
    noted = custody.ANOTHER if _is_another(key, request.commitment) else "the same"
    _check_folder(request, key.commitment)
    return Checked(request, key, seen, custody.NOT_COMPARED if request.commitment is None else noted)


def _check_claim(claim: Claim) -> None:
    """Raises UsageError for a claim that rows under coins, and Gaussian noise, cannot test."""
    if claim.unit not in ("record", "pair"):
        remedy = "a row of the data is what was drawn and clipped: claim that"
        raise UsageError("--claim: unit", "record or pair", claim.unit, remedy)
    claims.check_testable(claim, claim.unit)
    if claim.delta < DELTA_SMALLEST:
        expected = f"{DELTA_SMALLEST:g} or more"
        raise UsageError(
            "--claim: delta", expected, f"{claim.delta:g}", "Gaussian noise keeps no smaller one"
        )


def run(checked: Checked, progress: Progress) -> ObservedVerification:
    """Writes index.html and verification.json and returns what the JSON holds. Raises UsageError where
    canaries were kept out of the training.
    """
    folder = checked.request.out
    with progress.task("verify: the mechanism from inside", total=1) as advance:
        found = concluded(checked)
        advance(1)
    with exclusive.making(folder / FILE, folder / PAGE):
        shown = render.render_observed(found)
        text = json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n"
        whole_files.write_text(folder / FILE, text, whole_files.PRIVATE)
        whole_files.write_text(folder / PAGE, shown)
    return found


def concluded(checked: Checked) -> ObservedVerification:
    """Every verdict. Raises UsageError where canaries were drawn less often than other rows, and where some
    rows were left out.
    """
    from dpaudit.observing import conformance

    seen, request = checked.seen, checked.request
    expected, got = "canaries drawn as often as other rows", conformance.draws_missing(seen)
    if got is None:
        expected, got = "draws from all rows", conformance.rows_left_out(seen)
    if got is not None:
        remedy = "train on all rows that dpaudit.observe returned, without a split or filter after it"
        raise UsageError(f"--observed {request.seen}", expected, got, remedy)
    inside = tuple(_inside(checked, claim) for claim in request.claims)
    unseen = conformance.steps_missing(seen, request.mechanism)
    asked = [
        questions.Asked(
            ARM,
            found.claim,
            None,
            (questions.Training.of(found),) if seen.planted else (),
            failed=tuple(check.detail for check in found.failed),
            unseen=() if unseen is None else (unseen,),
        )
        for found in inside
    ]
    answers = questions.answered(asked)
    return ObservedVerification(
        answers=answers,
        inside=inside,
        watched=_watched(seen, request.mechanism),
        members=questions.size_of(answers),
        commitment=checked.key.commitment,
        noted_before=checked.noted_before,
        version=__version__,
    )


def _inside(checked: Checked, claim: Claim) -> Inside:
    """The findings for one claim. A record that ends early is tested as the first steps of what was
    claimed.
    """
    from dpaudit.observing import conformance

    seen, mechanism = checked.seen, checked.request.mechanism
    if not seen.planted:
        return _unplanted(claim, mechanism, conformance.checks(seen, mechanism, claim))
    claimed = replace(mechanism, steps=min(mechanism.steps, seen.steps))
    included, confidence, draws = checked.key.included, 1 - family.first_level(1), family.draws(1)
    count = included.size
    rate = max(mechanisms.RATE_LEAST, min(claimed.sampling_rate, conformance.rate_seen(seen)))
    found = Inside(
        arm=ARM,
        claim=claim,
        noise_multiplier=claimed.noise_multiplier,
        canaries=count,
        confidence=confidence,
        draws=draws,
        mechanism_test=whitebox.tested(seen.observed, included, claimed, claim, confidence, draws),
        power_halved=whitebox.power(claimed, count, confidence, 1 / 2, rate),
        power_third=whitebox.power(claimed, count, confidence, 1 / 3, rate),
        caught=whitebox.caught(claimed, claim.delta, count, confidence, rate),
        one_run=whitebox.bounded(seen.observed, included, claimed, claim, confidence),
        conformance=conformance.checks(seen, mechanism, claim),
    )
    return _without_power(found, short) if (short := conformance.canaries_short(seen, included)) else found


def _without_power(found: Inside, why: str) -> Inside:
    """The same where canaries did not show what they should: the test could have found nothing."""
    checks = (*found.conformance, Check(observed.ALONG, "not observable", why))
    return replace(found, power_halved=0.0, power_third=0.0, caught=NOTHING, conformance=checks)


def _unplanted(claim: Claim, mechanism: Mechanism, conformance: tuple[Check, ...]) -> Inside:
    """The findings where no step passed a clip: no canary could be planted, and no test was made."""
    return Inside(
        arm=ARM,
        claim=claim,
        noise_multiplier=mechanism.noise_multiplier,
        canaries=0,
        confidence=1 - family.first_level(1),
        draws=0,
        mechanism_test=MechanismTest(NO_TEST, 0.0, math.inf, 1.0, 0.5),
        power_halved=0.0,
        power_third=0.0,
        caught=NOTHING,
        one_run=OneRun(NO_TEST, 0.0, 0.0, 0, 0.0),
        conformance=conformance,
    )


def _watched(seen: Record, claimed: Mechanism) -> Watched:
    about, values = seen.about, seen.noise_values
    least = min((s / n for s, n in zip(seen.noise_squares, values, strict=True) if n), default=0.0)
    return Watched(
        rows=about.rows,
        extra_rows=about.included,
        axes=about.axes,
        steps=seen.steps,
        ended=about.ended,
        weights=len(about.weights),
        noise_least=float(least) ** 0.5 if values.all() else 0.0,
        noise_set=float(seen.noise_multiplier.min()),
        rate_seen=min(1.0, float(seen.drawn.sum()) / (seen.steps * (about.rows + about.included))),
        divisor=float(seen.divisor[-1]),
        clipping=about.clipping,
        processes=about.processes,
        unclipped=about.unclipped,
        mixed=about.mixed,
        sequences=about.sequences,
        accounted_steps=None if about.accountant is None else sum(part.steps for part in about.accounted),
        optimizer=about.optimizer,
        program=about.program,
        claimed_rate=claimed.sampling_rate,
        claimed_steps=claimed.steps,
        claimed_noise=claimed.noise_multiplier,
    )


def _is_another(key: ObservedKey, typed: str | None) -> bool:
    return typed is not None and custody.noted(key.commitment, typed)["noted_before"] == custody.ANOTHER


def _check_folder(request: Request, commitment: str) -> None:
    """Raises UsageError where the folder holds a result that the new one would not hold as well."""
    file = request.out / FILE
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        found = ObservedVerification.from_json(known, str(file))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(
            f"--out {request.out}", "a folder to write in", type(error).__name__, ANOTHER
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError, UsageError):
        raise _refused(file, "a result of another kind") from None
    mechanism, watched = request.mechanism, found.watched
    same = (watched.claimed_noise, watched.claimed_rate, watched.claimed_steps)
    if found.commitment != commitment or same != (
        mechanism.noise_multiplier,
        mechanism.sampling_rate,
        mechanism.steps,
    ):
        raise _refused(file, "a result for another training or mechanism")
    if not {answer.claim for answer in found.answers} <= set(request.claims):
        raise _refused(file, "a result for another claim")


def _refused(file: Path, got: str) -> UsageError:
    return UsageError(str(file), "no result of another audit, which this one would replace", got, ANOTHER)


# ---- what a terminal shows


def summary(found: ObservedVerification, page: Path) -> dict[str, Any]:
    """The lines of a terminal: of one claim its verdict and what it rests on, of several a row each."""
    first = found.inside[0]
    weak = any(answer.verdict == "no power" for answer in found.answers) and first.power_third
    told = {
        **({"mechanism_test": NO_TEST} if not first.canaries else _tested(first)),
        **({"to_get_power": MORE} if weak else {}),
        "not_observable": "; ".join(_not_observable(first)),
        **(
            {}
            if found.watched.ended
            else {"record": "not closed: what came after its last minute is not seen"}
        ),
        "commitment": found.commitment,
        "noted_before": found.noted_before,
        "presumes": PRESUMES,
        "page": str(page),
    }
    one, *others = found.answers
    if others:
        return {"tested": list(map(_row, found.answers, found.inside)), **told}
    return {"verdict": one.verdict, "reason": one.reason, "claim": str(one.claim), **told}


def _row(answer: Answered, inside: Inside) -> dict[str, Any]:
    return {
        "arm": ARM.removeprefix("the "),
        "claim": answer.claim.epsilon,
        "delta": answer.claim.delta,
        "verdict": answer.verdict,
        "epsilon_lower": inside.one_run.epsilon_lower,
        "ceiling": inside.one_run.ceiling,
        "confidence": inside.confidence,
        "reason": answer.reason,
    }


def _tested(inside: Inside) -> dict[str, Any]:
    upper = inside.mechanism_test.noise_upper
    most = f"{upper:.3g} clips" if math.isfinite(upper) else "no limit"
    return {
        "mechanism_test": f"p = {inside.mechanism_test.p_value:.2g}",
        "noise_at_most": f"{most}, by this test; {inside.noise_multiplier:.4g} claimed",
        "one_run_bound": f"epsilon at least {rounded_down(inside.one_run.epsilon_lower)}",
        "notion": inside.mechanism_test.notion,
    }


def _not_observable(inside: Inside) -> Sequence[str]:
    return [
        f"{check.name} ({check.detail})" for check in inside.conformance if check.outcome == "not observable"
    ]
