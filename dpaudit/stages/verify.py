"""Stage verify: a claim about a model that somebody else trained, tested by the canaries that were planted in
its data.

It knows nothing of how the model was trained. What it writes holds no secret, no coin and no text of a
canary.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpaudit import __version__, schema
from dpaudit.errors import UsageError, unread
from dpaudit.evidence import bounds, claims, control
from dpaudit.evidence import verdict as verdicts
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.verdict import Verdict
from dpaudit.findings.baselines import Blind
from dpaudit.page import render
from dpaudit.planting import audit_key
from dpaudit.planting.audit_key import AuditKey
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Recipe
from dpaudit.signals.text import Span
from dpaudit.stages.audit.performance import CONFIDENCE, Labelled, guess_by, performance
from dpaudit.stats import epsilon, fdp
from dpaudit.storage import custody, exclusive, whole_files
from dpaudit.system.progress import Advance, Progress
from dpaudit.terminal import visible

if TYPE_CHECKING:
    from dpaudit.models.secret_spans import SecretScores, Text

EXIT_CODES = {"not refuted": 0, "refuted": 1, "no power": 4}
NEEDS_DISTRIBUTION = ("min_k_pp",)  # signals that ask for more than the log-probability of the text
FDP_NOTION = bounds.NOTIONS["f-dp"]
OUT = Path("verification")
SEEN_MOST = (
    400  # characters of what a conformance check saw: it is somebody else's file, and goes onto the page
)
POWER = "unknown, unless the same key refutes a model that was trained on the same data without noise"

Floats = NDArray[np.float64]


class Scorer(Protocol):
    """A model that gives a text's log-probabilities."""

    tokenizer: Any

    def scores(self, texts: "Sequence[Text]", advance: Advance | None = None) -> "list[SecretScores]": ...


@dataclass(frozen=True)
class Audited:
    """What is audited: an adapter, a whole model with its base, or a served model (`model` and `base` are its
    names there).
    """

    adapter: Path | None = None
    model: str | None = None
    endpoint: str | None = None
    base: str | None = None
    allow_egress: tuple[str, ...] = ()
    tokenizer: str | None = (
        None  # of an endpoint: the folder whose chat template its dialogues are written in
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """What the audited model, and its base where one was asked, say of every secret in one rendering."""

    rendering: str
    texts: "list[Text]"
    audited: "list[SecretScores]"
    base: "list[SecretScores] | None"


def run(
    audited: Audited,
    key_file: Path,
    claim: Claim,
    progress: Progress,
    out: Path | None = None,
    data: Path | None = None,
    conformance: Path | None = None,
    commitment: str | None = None,
) -> dict[str, Any]:
    """Writes index.html and verification.json into `out` and returns what the JSON holds.

    Raises UsageError in one line for a key or claim that cannot be tested and a model that cannot be asked.
    """
    key = audit_key.load(key_file)
    audit_key.check(key, key_file, data)
    claims.check_testable(claim, key.unit)
    noted = _noted(key, commitment)
    seen, folder = _conformance(conformance), out or OUT
    _check_folder(folder, audited, claim)
    with exclusive.making(folder / "verification.json", folder / "index.html"):
        answers, base_name = _ask(audited, key, progress)
        with progress.task("verify: bounds and blind baseline", total=1) as advance:
            found = _findings(key, claim, answers) | {
                "audited": _named(audited, base_name),
                "key": _key_facts(key, data),
                "conformance": seen,
                **noted,
                "version": __version__,
            }
            advance(1)
        shown = render.render_verification(found)  # before anything is written
        whole_files.write_text(
            folder / "verification.json",
            json.dumps(found, ensure_ascii=False, indent=1) + "\n",
            whole_files.PRIVATE,
        )
        whole_files.write_text(folder / "index.html", shown)
    return found | {"page": str(folder / "index.html")}


def _noted(key: AuditKey, said: str | None) -> dict[str, str]:
    """What the key committed to before the training, beside what somebody noted down of it then."""
    now = audit_key.commitment(key)
    if said is None:
        return {"commitment": now, "noted_before": "not compared"}
    return custody.noted(now, said)


def _check_folder(folder: Path, audited: Audited, claim: Claim) -> None:
    """Raises UsageError where nothing can be written, or only over another audit, before hours of scoring and
    not after them.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        what = "a folder that may not be written in" if there.is_dir() else "a file"
        raise UsageError(
            f"--out {folder}",
            "a folder to write in, there or to be made",
            f"{there.absolute()}, {what}",
            "name another folder with --out DIR",
        )
    try:
        known = json.loads((folder / "verification.json").read_text(encoding="utf-8"))
        same = known["claim"] == asdict(claim) and known["audited"]["name"] == _named(audited, None)["name"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, RecursionError):
        same = False
    if not same:
        raise UsageError(
            f"{folder / 'verification.json'}",
            "no result of another audit, which this one would replace",
            "one of another model or claim",
            "name another folder with --out DIR",
        )


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The lines of a terminal."""
    bound = found["bound"]
    return {
        "verdict": found["verdict"]["verdict"],
        "reason": found["verdict"]["reason"],
        "claim": str(Claim(**found["claim"])),
        "guessed_right": f"{bound['correct']} of {bound['guesses']}, of {bound['canaries']} canaries",
        "commitment": found["commitment"],
        "noted_before": found["noted_before"],
        "notion": f"{bound['notion']}, {bound['confidence']:.0%} confidence",
        **({"power": POWER} if found["verdict"]["verdict"] == "not refuted" else {}),
        "presumes": "nothing of the trainer"
        if found["verdict"]["verdict"] == "refuted"
        else "a trainer who did not filter canaries out",
        "page": found["page"],
    }


# ---- asking the model; nothing here knows a coin


def _ask(audited: Audited, key: AuditKey, progress: Progress) -> tuple[list[Answers], str | None]:
    """What the model says in every rendering that can be made, and the name of the base that calibrates."""
    with progress.task("verify: opening the model", total=1) as advance:
        model, base, name = _open(audited)
        advance(1)
    renderings = {r: texts for r in key.rule.renderings if (texts := _texts(key, r, model))}
    same = "text" if key.canaries[0].record.text is not None else None
    if same:  # plain text has one rendering
        renderings = {same: next(iter(renderings.values()))}
    is_merged = audited.model is not None and audited.endpoint is None
    total = sum(map(len, renderings.values())) * (2 if base is not None or is_merged else 1)
    with progress.task("verify: scoring canaries", total=total) as advance:
        first = {r: model.scores(texts, advance) for r, texts in renderings.items()}
        if is_merged:  # two whole models need not fit at once
            from dpaudit.models import secret_spans

            assert isinstance(model, secret_spans.LocalModel) and audited.base
            tokenizer = model.tokenizer
            del model
            base, name = secret_spans.open_base(audited.base, tokenizer), audited.base
        second = {r: base.scores(texts, advance) for r, texts in renderings.items()} if base else {}
    return [Answers(r, texts, first[r], second.get(r)) for r, texts in renderings.items()], name


def _texts(key: AuditKey, rendering: str, model: Scorer) -> "list[Text] | None":
    from dpaudit.models.secret_spans import texts_of

    return texts_of(key.canaries, rendering, model.tokenizer)


def _open(audited: Audited) -> tuple[Scorer, Scorer | None, str | None]:
    if (audited.adapter is not None) + (audited.endpoint is not None or audited.model is not None) != 1:
        raise UsageError(
            "dpaudit verify",
            "one of --adapter DIR, --model DIR with --base DIR, --endpoint URL",
            "none" if audited.adapter is None else "two",
        )
    if audited.tokenizer is not None and audited.endpoint is None:
        raise UsageError("--tokenizer", "it beside --endpoint", "a model on this machine, which has its own")
    if audited.endpoint is not None:
        from dpaudit.models.prompt_logprobs import Endpoint

        served = Endpoint(audited.endpoint, audited.model, audited.allow_egress)
        served.tokenizer = _templated(audited.tokenizer) if audited.tokenizer else None
        return served, served.beside(audited.base) if audited.base else None, audited.base
    from dpaudit.models import hub, secret_spans

    hub.fetch(audited.base, "--base")
    hub.fetch(audited.model, "--model")
    if audited.adapter is not None:
        return secret_spans.open_adapter(audited.adapter, audited.base)
    if audited.base is None:
        raise UsageError(
            "--base",
            "the model that was fine-tuned, for a merged model",
            "none",
            "without it what was learned cannot be told from what was known; add --base DIR",
        )
    secret_spans.check_folder(audited.base, "--base")
    return secret_spans.open_whole(str(audited.model)), None, None


def _templated(folder: str) -> Any:
    """The tokenizer of a folder. Raises UsageError where it has no chat template, which is all that it is
    for.
    """
    from dpaudit.models import hub, tokenizers

    hub.fetch(folder, "--tokenizer", weights=False)
    try:
        found = tokenizers.load_tokenizer(folder)
    except UsageError as error:
        raise UsageError(f"--tokenizer {folder}", error.expected, error.got, error.remedy) from None
    if found.chat_template is None:
        raise UsageError(
            f"--tokenizer {folder}", "a tokenizer with a chat template", "one without", "leave the option out"
        )
    return found


# ---- scores, guesses, verdict


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What the rule that the key froze says: `scores` of every rendering, shape (canaries,), and what follows
    from the chosen one's.
    """

    made_by: Recipe
    is_pair: bool
    scores: dict[str, Floats]
    chosen: Answers
    guesses: Guesses
    verdict: Verdict


def judged(key: AuditKey, claim: Claim, answers: Sequence[Answers], broken: str | None = None) -> Conclusion:
    """The verdict on a claim, from scores and coins. The rendering is chosen by the scores of all canaries
    alone, in or out.

    Raises UsageError for a base that tells coins and for a model that gives no numbers.
    """
    is_calibrated = answers[0].base is not None
    made_by = key.rule.primary if is_calibrated else key.rule.without_base
    is_pair = key.unit == "pair" or key.canaries[0].record.is_pair
    if is_calibrated:
        _check_base(key, answers, is_pair)
    scores = {a.rendering: scores_of(made_by, a, is_pair) for a in answers}
    chosen = max(answers, key=lambda a: float(scores[a.rendering].mean()))
    coins = np.array(key.coins, dtype=bool)
    guesses = _guesses(made_by, scores[chosen.rendering], coins)
    verdict = verdicts.conclude(claim, guesses, broken)
    return Conclusion(made_by, is_pair, scores, chosen, guesses, verdict)


def _findings(key: AuditKey, claim: Claim, answers: Sequence[Answers]) -> dict[str, Any]:
    """All that follows from scores and coins. The verdict comes from the rule that the key froze, and from
    nothing else.
    """
    blind = _blind(key)
    conclusion = judged(key, claim, answers, control.broken(blind))
    coins = np.array(key.coins, dtype=bool)
    primary, chosen, guesses = conclusion.made_by, conclusion.chosen, conclusion.guesses
    assert primary.bound is not None
    examples = Labelled(conclusion.scores[chosen.rendering], coins, np.ones_like(coins))
    return {
        "claim": asdict(claim),
        "bound": {**guesses.bound(claim.delta), "fraction": primary.bound.guess.fraction},
        "fdp": _fdp(guesses, claim.delta),
        "verdict": asdict(conclusion.verdict),
        "detection": asdict(guesses.power(claim)),
        "rule": {
            "recipe": primary.name,
            "title": primary.title,
            "digest": primary.digest,
            "calibrated": chosen.base is not None,
            "rendering": chosen.rendering,
            "pair_margin": conclusion.is_pair,
            "chat_template": any(a.rendering in ("chat", "text") for a in answers),
            "renderings": {name: float(values.mean()) for name, values in conclusion.scores.items()},
        },
        "performance": schema.plain(performance(examples, seed=0)),
        "recipes": _others(primary, chosen, coins, claim, conclusion.is_pair),
        "blind": asdict(blind),
    }


def scores_of(made_by: Recipe, answers: Answers, is_pair: bool) -> Floats:
    """One score a canary, shape (canaries,); of a pair, the chosen secret's less the rejected one's.

    Raises UsageError where the model gives no number, or the probability zero.
    """
    signal = made_by.make_signal()
    base = answers.base or answers.audited  # a signal that calibrates is asked only where there is a base
    values = np.array(
        [
            signal(Span(a.logprob, a.mean, a.std, _same_tokens(a, b), text.secret))
            for a, b, text in zip(answers.audited, base, answers.texts, strict=True)
        ],
        dtype=np.float64,
    )
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise UsageError(
            "dpaudit verify",
            "a model that gives every text a probability",
            f"NaN or zero for {bad} of {len(values)} secrets",
            "its training diverged: there is nothing to audit",
        )
    return values[0::2] - values[1::2] if is_pair else values


def _check_base(key: AuditKey, answers: Sequence[Answers], is_pair: bool) -> None:
    """Raises UsageError where the base alone tells coins: it learned from the planted data, or stands in the
    other's place.

    Given such a base the coins are fair no more, so that what calibration leaves proves nothing, nor does its
    silence.
    """
    made_by, coins = key.rule.without_base, np.array(key.coins, dtype=bool)
    for given in answers:
        assert given.base is not None
        alone = scores_of(made_by, Answers(given.rendering, given.texts, given.base, None), is_pair)
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
                    "one that tells which canaries went in",
                    "name the model as it was before it saw the planted data",
                )


def _same_tokens(audited: "SecretScores", base: "SecretScores") -> Any:
    if len(audited.logprob) != len(base.logprob):
        raise UsageError("--base", "a base with the audited model's tokens", "other tokens")
    return base.logprob


def _guesses(made_by: Recipe, scores: Floats, coins: NDArray[np.bool_]) -> Guesses:
    assert made_by.bound is not None
    return guess_by(scores, coins, made_by.bound)


def _fdp(guesses: Guesses, delta: float) -> dict[str, Any]:
    """The Gaussian-family bound of the same guesses, which decides nothing."""
    if delta == 0:  # no Gaussian noise has an epsilon there
        return {"epsilon_lower": None, "ceiling": None, "notion": FDP_NOTION}

    def proven(correct: int) -> float:
        return fdp.epsilon_lower_fdp_gaussian(
            canaries=guesses.canaries,
            guesses=guesses.guesses,
            correct=correct,
            delta=delta,
            confidence=guesses.confidence,
        )

    return {
        "epsilon_lower": proven(guesses.correct),
        "ceiling": proven(guesses.guesses),
        "notion": FDP_NOTION,
    }


def _others(
    primary: Recipe, answers: Answers, coins: NDArray[np.bool_], claim: Claim, is_pair: bool
) -> list[dict[str, Any]]:
    """What other recipes' guesses prove. Information: they decide nothing, and no correction is made for
    them.
    """
    found = []
    for made_by in recipe.load_all("mia"):
        unknown = np.isnan(answers.audited[0].mean).any() and made_by.signal in NEEDS_DISTRIBUTION
        uncalibrated = made_by.reference != "none" and answers.base is None
        if made_by.digest == primary.digest or made_by.bound is None or unknown or uncalibrated:
            continue
        signal = made_by.make_signal()
        asks_more = getattr(signal, "evidence", None) or made_by.signal == "error_zone"
        if made_by.least_shadows or not callable(signal) or asks_more:
            # nobody here trains as the other side did, fits on coins, or asks for more than log-probabilities
            continue
        try:
            guesses = _guesses(made_by, scores_of(made_by, answers, is_pair), coins)
        except UsageError:  # no number under a signal that decides nothing: the verdict stands without it
            continue
        bound = guesses.bound(claim.delta)
        kept = ("epsilon_lower", "ceiling", "guesses", "correct", "confidence", "notion")
        found.append({"recipe": made_by.name, "title": made_by.title, **{key: bound[key] for key in kept}})
    return found


def _blind(key: AuditKey) -> Blind:
    """What the canaries' texts alone tell of the coins: nothing, if the coins are what the key says."""
    from dpaudit.evidence import blind

    texts = []
    for canary in key.canaries:
        record = canary.record
        said = [*(turn.text for turn in record.turns), record.text, record.chosen, record.rejected]
        texts.append("\n".join(text for text in said if text))
    seen = blind.baseline(texts, list(key.coins), seed=0, confidence=CONFIDENCE)
    return Blind(
        **asdict(seen),
        finding=blind.finding(seen.auc_lower, seen.auc_upper, seen.p_value, drawn_by_coin=True),
    )


# ---- what is told beside it


def _named(audited: Audited, base: str | None) -> dict[str, Any]:
    kind = "adapter" if audited.adapter else "endpoint" if audited.endpoint else "model"
    name = str(audited.adapter) if audited.adapter else audited.model
    weights = audited.adapter / "adapter_model.safetensors" if audited.adapter else None
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights else None
    return {
        "kind": kind,
        "name": name,
        "sha256": digest,
        "endpoint": audited.endpoint,
        "base": base or audited.base,
    }


def _key_facts(key: AuditKey, data: Path | None) -> dict[str, Any]:
    return {
        "unit": key.unit,
        "family": key.family,
        "shape": key.shape,
        "rows": key.rows,
        "canaries": len(key.coins),
        "data_checked": data is not None,
    }


def _conformance(file: Path | None) -> dict[str, Any] | None:
    """What `dpaudit.callback` recorded. Raises UsageError for another file."""
    if file is None:
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        checks = [
            {key: visible(str(check[key]), SEEN_MOST) for key in ("check", "result", "seen")}
            for check in found["checks"]
        ]
    except OSError as error:
        raise unread(f"--conformance {file}", "the JSON that dpaudit.callback wrote", error) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            f"--conformance {file}", "the JSON that dpaudit.callback wrote", "another file"
        ) from None
    return {"checks": checks}


def exit_code(verdicts: Sequence[str]) -> int:
    """1 where any claim is refuted, else 4 where any had no power, else 0."""
    codes = {EXIT_CODES[verdict] for verdict in verdicts}
    return 1 if 1 in codes else max(codes, default=0)
