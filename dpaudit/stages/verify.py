"""Stage verify: a claim about a model that somebody else trained, tested by the canaries that were planted in
its data.

It knows nothing of how the model was trained. What it writes holds no secret, no coin and no text of a
canary.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpaudit import __version__
from dpaudit.errors import UsageError
from dpaudit.evidence import claims, control, questions
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.questions import Asked, Outside
from dpaudit.findings.answers import Answered
from dpaudit.findings.baselines import Blind
from dpaudit.findings.membership import Proven
from dpaudit.findings.verification import (
    BoundOfKey,
    ControlSeen,
    OtherRecipe,
    RuleUsed,
    Verification,
)
from dpaudit.page import render
from dpaudit.planting import audit_key
from dpaudit.planting.audit_key import AuditKey, Planted
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Recipe
from dpaudit.stages import held_key, verify_control, verify_facts
from dpaudit.stages.asking import Answers, Audited, ask
from dpaudit.stages.audit.performance import CONFIDENCE, Labelled, guess_by, performance, rule
from dpaudit.stages.verify_control import Looker
from dpaudit.stages.verify_scores import Scored, scored
from dpaudit.stats import epsilon
from dpaudit.storage import custody, exclusive, whole_files
from dpaudit.system.progress import Progress

EXIT_CODES = {"not refuted": 0, "refuted": 1, "no power": 4}
NEEDS_DISTRIBUTION = ("min_k_pp",)  # signals that ask for more than the log-probability of the text
OUT, FILE, PAGE = Path("verification"), "verification.json", "index.html"
UNKNOWN = (
    "its power is unknown without a control, an adapter that was trained on the same planted data "
    "without noise"
)

Floats = NDArray[np.float64]


def run(
    audited: Audited,
    key_file: Path,
    claim: Claim,
    progress: Progress,
    out: Path | None = None,
    data: Path | None = None,
    conformance: Path | None = None,
    commitment: str | None = None,
    send_real_rows: bool = False,
    control: Path | None = None,
) -> Verification:
    """Writes index.html and verification.json into `out` and returns what the JSON holds.

    Raises UsageError in one line for a key or claim that cannot be tested and a model that cannot be asked.
    """
    if control is not None:
        verify_control.check(control, audited, data)
    key = audit_key.load(key_file)
    held_key.check_sending(key, audited, send_real_rows)
    audit_key.check(key, key_file, None if key.held_out else data)
    claims.check_testable(claim, key.unit)
    noted = _noted(key, commitment)
    key = held_key.opened(key, key_file, data)
    seen, folder = verify_facts.recorded(conformance), out or OUT
    _check_folder(folder, audited, claim)
    ordinary: list[Planted] = []
    if control is not None and data is not None:
        verify_control.check_key(control, key)
        ordinary = verify_control.ordinary_rows(data)
    with exclusive.making(folder / FILE, folder / PAGE):
        asked = ask(audited, key, progress, ordinary)
        look = partial(_look, control, audited, key, ordinary, progress) if control else None
        with progress.task("verify: bounds and blind baseline", total=1) as advance:
            verification = Verification(
                **_concluded(key, claim, asked.answers, look),
                not_asked=asked.not_asked,
                audited=verify_facts.named(audited, asked.base),
                key=verify_facts.of_key(key, data),
                conformance=seen,
                commitment=noted["commitment"],
                noted_before=noted["noted_before"],
                version=__version__,
            )
            advance(1)
        shown = render.render_verification(verification)  # before anything is written
        text = json.dumps(verification.to_json(), ensure_ascii=False, indent=1) + "\n"
        whole_files.write_text(folder / FILE, text, whole_files.PRIVATE)
        whole_files.write_text(folder / PAGE, shown)
    return verification


def _look(
    control: Path,
    audited: Audited,
    key: AuditKey,
    ordinary: list[Planted],
    progress: Progress,
    made_by: Recipe,
    chosen: Answers,
    is_pair: bool,
) -> verify_control.Look:
    return verify_control.looked_at(control, audited, key, made_by, chosen, ordinary, is_pair, progress)


def _noted(key: AuditKey, typed: str | None) -> dict[str, str]:
    """What the key committed to before the training, beside what somebody noted down of it then."""
    now = audit_key.commitment(key)
    if typed is None:
        return {"commitment": now, "noted_before": "not compared"}
    return custody.noted(now, typed)


def _check_folder(folder: Path, audited: Audited, claim: Claim) -> None:
    """Raises UsageError where nothing can be written, or only over another audit, before hours of scoring and
    not after them.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        what = "a folder without write permission" if there.is_dir() else "a file"
        raise UsageError(
            f"--out {folder}",
            "a folder to write in, there or to be made",
            f"{there.absolute()}, {what}",
            "name another folder with --out DIR",
        )
    try:
        known = json.loads((folder / FILE).read_text(encoding="utf-8"))
        same = (
            known["claim"] == asdict(claim)
            and known["audited"]["name"] == verify_facts.named(audited, None).name
        )
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, RecursionError):
        same = False
    if not same:
        raise UsageError(
            str(folder / FILE),
            "no result of another audit, which this one would replace",
            "a result for another model or claim",
            "name another folder with --out DIR",
        )


def summary(verification: Verification, page: Path) -> dict[str, Any]:
    """The lines of a terminal."""
    bound, word = verification.bound, verification.verdict.verdict
    others, units = held_key.PRESUMES[verification.key.plan], held_key.UNITS[verification.key.plan]
    presumes = "nothing of the trainer" if word == "refuted" else others
    if word != "refuted" and not verification.key.data_checked:
        presumes += ", and that the key is of the training data: --data FILE compares them"
    return {
        "verdict": word,
        "reason": verification.verdict.reason,
        "claim": str(verification.claim),
        "guessed_right": f"{bound.correct} of {bound.guesses}, of {bound.canaries} {units}",
        "commitment": verification.commitment,
        "noted_before": verification.noted_before,
        "notion": f"{bound.notion}, {bound.confidence:.0%} confidence",
        "presumes": presumes,
        "page": str(page),
    }


# ---- scores, guesses, verdict


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What the rule that the key froze says: `scores` of every rendering, and what follows from the chosen
    one's.
    """

    made_by: Recipe
    is_pair: bool
    scores: dict[str, Scored]
    chosen: Answers
    guesses: Guesses
    verdict: Answered
    control: ControlSeen | None = None


def judged(
    key: AuditKey,
    claim: Claim,
    answers: Sequence[Answers],
    broken: str | None = None,
    look: Looker | None = None,
) -> Conclusion:
    """The verdict on a claim, from scores and coins; its power from what `look` says of a control. The
    rendering is chosen by the scores of all canaries alone, in or out.

    Raises UsageError for a base that reveals coins and for a model that gives no numbers.
    """
    is_calibrated = answers[0].base is not None
    made_by = key.rule.primary if is_calibrated else key.rule.without_base
    is_pair = key.unit == "pair" or key.canaries[0].record.is_pair
    if is_calibrated:
        _check_base(key, answers, is_pair)
    scores = {a.rendering: scored(made_by, a, is_pair) for a in answers}
    chosen = max(answers, key=lambda a: scores[a.rendering].trace)
    coins = np.array(key.coins, dtype=bool)
    guesses = _guesses(made_by, scores[chosen.rendering].values, coins)
    seen = look(made_by, chosen, is_pair) if look else None
    outside = Outside(
        "the adapter",
        guesses,
        control=seen.control if seen else None,
        unknown=seen.unknown if seen else UNKNOWN,
        broken=broken,
    )
    (answer,) = questions.answered([Asked("the adapter", claim, outside)])
    return Conclusion(made_by, is_pair, scores, chosen, guesses, answer, seen.seen if seen else None)


def _concluded(
    key: AuditKey, claim: Claim, answers: Sequence[Answers], look: Looker | None
) -> dict[str, Any]:
    """The fields of a verification that follow from scores and coins. The verdict comes from the rule that
    the key froze, and from nothing else.
    """
    blind = _blind(key)
    conclusion = judged(key, claim, answers, control.broken(blind), look)
    coins = np.array(key.coins, dtype=bool)
    primary, chosen, guesses = conclusion.made_by, conclusion.chosen, conclusion.guesses
    assert primary.bound is not None
    used = conclusion.scores[chosen.rendering]
    examples = Labelled(used.values, coins, np.ones_like(coins))
    return {
        "claim": claim,
        "bound": BoundOfKey(**guesses.bound(claim.delta), rule=rule(primary.bound.guess)),
        "fdp": guesses.in_family(claim.delta),
        "verdict": conclusion.verdict,
        "control": conclusion.control,
        "detection": guesses.power(claim),
        "rule": RuleUsed(
            recipe=primary.name,
            title=primary.title,
            digest=primary.digest,
            calibrated=chosen.base is not None,
            rendering=chosen.rendering,
            pair_margin=conclusion.is_pair,
            chat_template=any(a.rendering in ("chat", "text") for a in answers),
            slope=used.slope,
            renderings={name: of.trace for name, of in conclusion.scores.items()},
        ),
        "performance": performance(examples, seed=0),
        "recipes": _others(primary, chosen, coins, claim, conclusion.is_pair),
        "blind": blind,
    }


def _check_base(key: AuditKey, answers: Sequence[Answers], is_pair: bool) -> None:
    """Raises UsageError where the base alone reveals coins: it learned from the planted data, or was
    exchanged with the audited model.

    Given such a base the coins are no longer fair: neither right nor wrong guesses after calibration prove
    anything.
    """
    made_by, coins = key.rule.without_base, np.array(key.coins, dtype=bool)
    for given in answers:
        assert given.base is not None
        alone = scored(made_by, Answers(given.rendering, given.texts, given.base, None), is_pair).values
        for side in (alone, -alone):
            guesses = _guesses(made_by, side, coins)
            p_value = epsilon.p_value_one_run(
                canaries=guesses.canaries,
                guesses=guesses.guesses,
                correct=guesses.correct,
                epsilon=0.0,
                delta=0.0,
            )
            if p_value < audit_key.UNFAIR:
                raise UsageError(
                    "--base",
                    "the model that training started from, which knows no canary",
                    "a model that tells which canaries went in",
                    "name the model as it was before it saw the planted data",
                )


def _guesses(made_by: Recipe, scores: Floats, coins: NDArray[np.bool_]) -> Guesses:
    assert made_by.bound is not None
    return guess_by(scores, coins, made_by.bound)


def _others(
    primary: Recipe, answers: Answers, coins: NDArray[np.bool_], claim: Claim, is_pair: bool
) -> tuple[OtherRecipe, ...]:
    """What other recipes' guesses prove. Information: they decide nothing, and no correction is made for
    them.
    """
    others = []
    for made_by in recipe.load_all("mia"):
        unknown = np.isnan(answers.audited[0].mean).any() and made_by.signal in NEEDS_DISTRIBUTION
        uncalibrated = made_by.reference != "none" and answers.base is None
        if made_by.digest == primary.digest or made_by.bound is None or unknown or uncalibrated:
            continue
        signal = made_by.make_signal()
        asks_more = getattr(signal, "evidence", None) or made_by.signal == "error_zone"
        if made_by.least_shadows or not callable(signal) or asks_more:
            # no shadow training, no fit on coins, nothing beyond log-probabilities here
            continue
        try:
            guesses = _guesses(made_by, scored(made_by, answers, is_pair).values, coins)
        except UsageError:  # no number under a signal that decides nothing: the verdict stands without it
            continue
        bound = Proven(**guesses.bound(claim.delta))
        others.append(
            OtherRecipe(
                recipe=made_by.name,
                title=made_by.title,
                epsilon_lower=bound.epsilon_lower,
                ceiling=bound.ceiling,
                guesses=bound.guesses,
                correct=bound.correct,
                confidence=bound.confidence,
                notion=bound.notion,
            )
        )
    return tuple(others)


def _blind(key: AuditKey) -> Blind:
    """What the canaries' texts alone reveal of the coins: nothing, if the coins are what the key says."""
    from dpaudit.evidence import blind

    texts = []
    for canary in key.canaries:
        record = canary.record
        parts = [*(turn.text for turn in record.turns), record.text, record.chosen, record.rejected]
        texts.append("\n".join(text for text in parts if text))
    seen = blind.baseline(texts, list(key.coins), seed=0, confidence=CONFIDENCE)
    return Blind(
        **asdict(seen),
        finding=blind.finding(seen.auc_lower, seen.auc_upper, seen.p_value, drawn_by_coin=True),
    )


def exit_code(verdicts: Sequence[str]) -> int:
    """1 where any claim is refuted, else 4 where any had no power, else 0."""
    codes = {EXIT_CODES[verdict] for verdict in verdicts}
    return 1 if 1 in codes else max(codes, default=0)
