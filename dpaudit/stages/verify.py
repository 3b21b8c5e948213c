"""Stage verify: claims about models that somebody else trained, tested by the canaries that were planted in
their data.

It knows nothing of how a model was trained. What it writes holds no secret, no coin and no text of a canary.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit import __version__
from dpaudit.evidence import claims, control, questions
from dpaudit.evidence.family import ERROR
from dpaudit.evidence.verdict import rounded_down
from dpaudit.findings.baselines import Blind
from dpaudit.findings.verification import AnsweredByKey, Conformance, Examined, RuleUsed, Verification
from dpaudit.page import render, verified
from dpaudit.planting import audit_key
from dpaudit.planting.audit_key import AuditKey, Planted
from dpaudit.planting.reach import can_refute
from dpaudit.privacy.claim import Claim
from dpaudit.stages import held_key, verify_control, verify_facts, verify_folder, verify_verdicts
from dpaudit.stages.asking import Asked, ask
from dpaudit.stages.audit.performance import Labelled, performance
from dpaudit.stages.audited import Audited, require
from dpaudit.stages.verify_control import Look
from dpaudit.stages.verify_folder import FILE, OUT, PAGE
from dpaudit.stages.verify_kept import FOLDER, Kept
from dpaudit.stages.verify_verdicts import Claimed, Guessed, guessed, judged
from dpaudit.storage import custody, exclusive, whole_files
from dpaudit.system.progress import Progress

NOT_NEEDED = "not needed and not trained: every claim that guesses can refute is refuted without one"
Making = Callable[[], Path]  # trains a control, and says where it lies
EXIT_CODES = {"not refuted": 0, "refuted": 1, "no power": 4}


@dataclass(frozen=True)
class Request:
    """What one call asks: every claim with the model that it is about, in the order of the page."""

    claims: tuple[tuple[Audited, Claim], ...]
    key_file: Path
    out: Path = OUT
    data: Path | None = None
    conformance: Path | None = None
    commitment: str | None = None  # as it was noted down
    send_real_rows: bool = False

    @property
    def models(self) -> tuple[Audited, ...]:
        return tuple(dict.fromkeys(audited for audited, _ in self.claims))

    @property
    def adapters(self) -> list[Path]:
        return [audited.adapter for audited in self.models if audited.adapter]


@dataclass(frozen=True, eq=False)
class Checked:
    """A request that can be answered, as far as its words, its key and its folder show."""

    request: Request
    key: AuditKey
    conformance: Conformance | None
    commitment: str
    noted_before: str


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model was heard to say, what was guessed from it, and what a control showed beside it."""

    audited: Audited
    asked: Asked
    guessed: Guessed
    look: Look | None


def check(request: Request) -> Checked:
    """Raises UsageError in one line, before anything is loaded, for a key or claim that cannot be tested, a
    model that is not there and a folder that holds another result.
    """
    key = audit_key.load(request.key_file)
    for audited in request.models:
        held_key.check_sending(key, audited, request.send_real_rows)
    audit_key.check(key, request.key_file, None if key.held_out else request.data)
    for _, claim in request.claims:
        claims.check_testable(claim, key.unit)
    noted = _noted(key, request.commitment)
    opened = held_key.opened(key, request.key_file, request.data)
    seen = verify_facts.recorded(request.conformance)
    verify_folder.check(request.out, request.claims, noted["commitment"])
    for audited in request.models:
        require(audited)
    return Checked(request, opened, seen, noted["commitment"], noted["noted_before"])


def run(checked: Checked, progress: Progress, control: Path | Making | None = None) -> Verification:
    """Writes index.html and verification.json and returns what the JSON holds. What models said of secrets is
    kept beside them for the next call.

    A control that is yet to be made is made after the models were asked, and only where an open claim could
    use it: a refutation needs none. Raises UsageError in one line for a control that cannot be one and a
    model that cannot be asked.
    """
    request, folder = checked.request, checked.request.out
    ordinary: list[Planted] = []
    if isinstance(control, Path):
        verify_control.check(control, request.adapters, request.data)
        verify_control.check_key(control, checked.key)
    if control is not None:
        assert request.data is not None
        ordinary = verify_control.ordinary_rows(request.data)
    with exclusive.making(folder / FILE, folder / PAGE):
        seen = [_seen(checked, audited, ordinary, progress) for audited in request.models]
        with progress.task("verify: blind baseline", total=1) as advance:
            blind = verify_verdicts.blind_of(checked.key)
            advance(1)
        if callable(control) and not _is_wanted(checked, seen, blind):
            progress.say(f"control: {NOT_NEEDED}")
        elif control is not None:
            made = control() if callable(control) else control
            seen = [_beside(checked, one, made, ordinary, progress) for one in seen]
        with progress.task("verify: bounds", total=1) as advance:
            verification = _concluded(checked, seen, blind)
            advance(1)
        shown = render.render_verification(verification)  # before anything is written
        text = json.dumps(verification.to_json(), ensure_ascii=False, indent=1) + "\n"
        whole_files.write_text(folder / FILE, text, whole_files.PRIVATE)
        whole_files.write_text(folder / PAGE, shown)
    return verification


def _seen(checked: Checked, audited: Audited, ordinary: list[Planted], progress: Progress) -> Seen:
    asked = ask(audited, checked.key, progress, ordinary, _kept(checked))
    return Seen(audited, asked, guessed(checked.key, asked.answers), None)


def _beside(checked: Checked, seen: Seen, control: Path, ordinary: list[Planted], progress: Progress) -> Seen:
    """A model with a control beside it, asked as the model's answers chose."""
    found, kept = seen.guessed, _kept(checked)
    look = verify_control.looked_at(
        control,
        seen.audited,
        checked.key,
        found.made_by,
        found.chosen,
        ordinary,
        found.is_pair,
        progress,
        kept,
    )
    return replace(seen, look=look)


def _kept(checked: Checked) -> Kept:
    key = checked.key
    return Kept(checked.request.out / FOLDER, checked.commitment, bytes.fromhex(key.hash_key))


def _is_wanted(checked: Checked, seen: Sequence[Seen], blind: Blind) -> bool:
    """Whether any claim is not refuted yet and could be by right guesses. A control changes no refutation:
    the family of a call is counted without one.
    """
    return any(
        answer.verdict != "refuted" and can_refute(checked.key, answer.claim.epsilon, answer.claim.delta)
        for answer in judged(_claimed(checked.request, seen), control.broken(blind))
    )


def _noted(key: AuditKey, typed: str | None) -> dict[str, str]:
    """What the key committed to before the training, beside what somebody noted down of it then."""
    now = audit_key.commitment(key)
    if typed is None:
        return {"commitment": now, "noted_before": custody.NOT_COMPARED}
    return custody.noted(now, typed)


def _concluded(checked: Checked, seen: Sequence[Seen], blind: Blind) -> Verification:
    answers = judged(_claimed(checked.request, seen), control.broken(blind))
    return Verification(
        answers=answers,
        models=tuple(_examined(one, checked.request) for one in seen),
        members=questions.size_of(answers),
        blind=blind,
        key=verify_facts.of_key(checked.key, checked.request.data),
        conformance=checked.conformance,
        commitment=checked.commitment,
        noted_before=checked.noted_before,
        version=__version__,
    )


def _claimed(request: Request, seen: Sequence[Seen]) -> list[Claimed]:
    of_model = {one.audited: one for one in seen}
    return [
        Claimed(audited.name, claim, of_model[audited].guessed, of_model[audited].look)
        for audited, claim in request.claims
    ]


def _examined(seen: Seen, request: Request) -> Examined:
    found = seen.guessed
    examples = Labelled(found.scores[found.chosen.rendering].values, found.coins, np.ones_like(found.coins))
    deltas = tuple(dict.fromkeys(claim.delta for audited, claim in request.claims if audited == seen.audited))
    return Examined(
        name=seen.audited.name,
        audited=verify_facts.named(seen.audited, seen.asked.base),
        rule=_rule_used(found, seen.asked),
        not_asked=seen.asked.not_asked,
        performance=performance(examples, seed=0),
        recipes=verify_verdicts.others(found, deltas),
        control=seen.look.seen if seen.look else None,
    )


def _rule_used(found: Guessed, asked: Asked) -> RuleUsed:
    return RuleUsed(
        recipe=found.made_by.name,
        title=found.made_by.title,
        digest=found.made_by.digest,
        calibrated=found.chosen.base is not None,
        rendering=found.chosen.rendering,
        pair_margin=found.is_pair,
        chat_template=any(a.rendering in ("chat", "text") for a in asked.answers),
        slope=found.scores[found.chosen.rendering].slope,
        renderings={name: of.trace for name, of in found.scores.items()},
    )


# ---- what a terminal shows


def summary(verification: Verification, page: Path) -> dict[str, Any]:
    """The lines of a terminal: of one claim its verdict and what it rests on, of several a row each."""
    answers = verification.answers
    words = {answer.verdict for answer in answers}
    way = verified.ways_to_power(verification)
    told = {
        **({"to_get_power": way} if way else {}),
        "commitment": verification.commitment,
        "noted_before": verification.noted_before,
        "presumes": _presumes(verification, words),
        "page": str(page),
    }
    if len(answers) == 1:
        return _of_one(answers[0], held_key.UNITS[verification.key.plan]) | told
    many = verification.members
    family = f"{many} question{'s' * (many != 1)}, tested {'together ' * (many != 1)}at {ERROR:.0%}"
    return {"tested": [_row(answer) for answer in answers], "family": family, **told}


def _presumes(verification: Verification, words: Collection[str]) -> str:
    if set(words) == {"refuted"}:
        return "nothing of the trainer"
    presumes = held_key.PRESUMES[verification.key.plan]
    if not verification.key.data_checked:
        presumes += ", and that the key is of the training data: --data FILE compares them"
    return f"{presumes}; what is refuted presumes nothing" if "refuted" in words else presumes


def _of_one(answer: AnsweredByKey, units: str) -> dict[str, Any]:
    bound = answer.bound
    return {
        "verdict": answer.verdict,
        "reason": answer.reason,
        "claim": str(answer.claim),
        "guessed_right": f"{bound.correct} of {bound.guesses}, of {bound.canaries} {units}",
        "proven": f"epsilon of at least {rounded_down(bound.epsilon_lower)}; the most that this audit can "
        f"prove, with all {bound.guesses} guesses right, is {rounded_down(bound.ceiling)}",
        "notion": f"{bound.notion}, {bound.confidence:.0%} confidence",
    }


def _row(answer: AnsweredByKey) -> dict[str, Any]:
    return {
        "arm": answer.arm,
        "claim": answer.claim.epsilon,
        "delta": answer.claim.delta,
        "verdict": answer.verdict,
        "epsilon_lower": answer.bound.epsilon_lower,
        "ceiling": answer.bound.ceiling,
        "confidence": answer.bound.confidence,
        "reason": answer.reason,
    }


def exit_code(verdicts: Sequence[str]) -> int:
    """1 where any claim is refuted, else 4 where any had no power, else 0."""
    codes = {EXIT_CODES[verdict] for verdict in verdicts}
    return 1 if 1 in codes else max(codes, default=0)
