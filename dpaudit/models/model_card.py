"""The card of an adapter, or of a model that one was merged into: its claim, what an audit said of it, and
for what it is meant. It comes from the ledger and from a verdict: nothing in it comes from unprotected
records.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from dpaudit.models.licence import folder_of, licence_of
from dpaudit.privacy.claim import rounded_up
from dpaudit.privacy.ledger import Ledger
from dpaudit.suite.plan import ASSUMED_PUBLIC
from dpaudit.suite.suite import RANDOM


@dataclass(frozen=True)
class Audited:
    """What an audit said of the claim of an adapter, without any figure of it."""

    verdict: str
    spoke: tuple[str, ...]  # the questions that were able to: outside, inside
    date: str  # when it was read from the run: UTC
    run: str


def model_card(
    ledger: Ledger | None,
    base: str,
    *,
    merged: bool = False,
    full: bool = False,
    audited: Audited | None = None,
) -> str:
    """The card in Markdown, with how to load it; without a ledger the adapter was assumed public.

    A `full` card goes with the full ledger, and tells rate, steps, batch and noise too where the population
    was declared. Where it was counted from the data, no card tells any of them.
    """
    private = ledger is not None and ledger.is_private
    head: dict[str, Any] = {
        "library_name": "transformers" if merged else "peft",
        "base_model": base,
        "tags": ["merged" if merged else "lora", *(["differential-privacy"] if private else [])],
        "privacy": _privacy(ledger, audited),
    }
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        f"# {'Merged model' if merged else 'LoRA adapter'}: {_title(ledger)}",
        "",
        *_claim_lines(ledger, full),
        *_hash_lines(ledger, merged),
        "",
        *_audit_lines(ledger, audited),
        *_use_lines(base),
        "## Loading",
        "",
        *(_merged_loading() if merged else _adapter_loading(base)),
        "",
        *(_merged_lines(base, ledger is not None, full) if merged else ()),
    ]
    return "\n".join(lines)


def _privacy(ledger: Ledger | None, audited: Audited | None) -> dict[str, Any]:
    """The block of the card's head; of an adapter that claims nothing it says so."""
    if ledger is None or not ledger.is_private or ledger.is_reproducible:
        return {"claimed": False}
    claim = ledger.claim
    verdict = {"verdict": audited.verdict, "as_of": audited.date} if audited else {"verdict": "not audited"}
    return {
        "claimed": True,
        "epsilon": claim.epsilon,
        "delta": claim.delta,
        "unit": claim.unit,
        "relation": claim.relation,
        "accountant": "exact" if claim.unit == "label" else "privacy loss distribution",
        "epsilon_spent": rounded_up(ledger.epsilon),
        "audit": verdict,
    }


def _audit_lines(ledger: Ledger | None, audited: Audited | None) -> list[str]:
    if ledger is None or not ledger.is_private:
        return []
    if audited is None:
        return [
            "## Audit",
            "",
            "Not audited when this card was written. That says nothing for the claim and nothing against it.",
            "",
        ]
    spoke = " and ".join(f"from {side}" for side in audited.spoke)
    told = (
        f"The question that was able to find a false claim looked {spoke}."
        if spoke
        else ("No question was able to find a false claim.")
    )
    return [
        "## Audit",
        "",
        f"The claim is **{audited.verdict}** (run `{audited.run}`, as read on {audited.date}). {told} *Not "
        "refuted* is no proof that a claim is true; *no power* means that the audit could not have seen a "
        "false one.",
        "",
    ]


def _use_lines(base: str) -> list[str]:
    return [
        "## Intended use",
        "",
        "Research on private fine-tuning, and systems whose answers a qualified person checks. The claim "
        "above is about the people in the training data. It says nothing of whether an answer is true, fair "
        "or safe, and it does not say that a law is met.",
        "",
        "**No medical advice.** This is no medical device. It was not tested for the care of patients, and "
        "it may be wrong with confidence. Nobody should start, change or stop a treatment because of what "
        "it says; ask a doctor or a pharmacist.",
        "",
        f"Licence of the base, as its folder states it: {licence_of(folder_of(base)) or 'not stated'}.",
        "",
    ]


def _hash_lines(ledger: Ledger | None, merged: bool) -> list[str]:
    """The hash of the card's weights; for a merged model, that of the adapter that went into it."""
    if ledger is None or ledger.adapter_sha256 is None:
        return []
    return ["", f"{'Adapter merged' if merged else 'Weights'}: SHA-256 `{ledger.adapter_sha256}`"]


def _title(ledger: Ledger | None) -> str:
    if ledger is None:
        return "no claim"
    arm = ledger.arm
    methods = {"sft": "supervised fine-tuning", "cpt": "continued pretraining"}
    method = methods.get(arm["method"], f"DPO ({arm['loss']})")
    return f"{method}, epsilon {ledger.claim.epsilon:g}"


def _claim_lines(ledger: Ledger | None, full: bool) -> list[str]:
    if ledger is None:
        return ["No ledger came with the adapter: it was assumed to be trained on public data."]
    return _private_lines(ledger, full) if ledger.is_private else _open_lines()


def _adapter_loading(base: str) -> list[str]:
    """`builtin:NAME` is known to this package alone, which says where its folder is; `random:SHAPE` lies
    nowhere.
    """
    if base.startswith(RANDOM):
        return ["The base's weights are random: this adapter was trained to measure memory and time."]
    inside = base.startswith("builtin:")
    place = f'resolve("{base}")' if inside else f'"{base}"'
    return [
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        *(["from dpaudit.models.hf import resolve"] if inside else []),
        "",
        f"base = {place}",
        'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), "FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
        "",
        "`FOLDER` is the folder that this card is in.",
    ]


def _merged_loading() -> list[str]:
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
        "",
        "`FOLDER` is the folder that this card is in.",
    ]


def _merged_lines(base: str, has_ledger: bool, full: bool) -> list[str]:
    kept = (
        " `privacy.json` is the full ledger, and config.json carries its SHA-256 (`dpaudit_ledger`): it goes "
        "where the weights go, and who trains on counts it as spent. It tells rate, steps and population; "
        "where the population was counted from the data, that number is told with it."
    )
    withheld = (
        " The full ledger is not in this folder: it stays with who merged the model. config.json carries its "
        "SHA-256 (`dpaudit_ledger`). Without it dpaudit neither trains this model on nor merges into it, "
        "because what was spent could not be counted."
    )
    told = (kept if full else withheld) if has_ledger else ""
    return [f"The adapter was merged into {base}; nothing else was changed.{told}", ""]


def _open_lines() -> list[str]:
    return [
        "Trained **without** differential privacy, as the baseline of a comparison.",
        "It may reproduce its training records and must not be released.",
    ]


def _private_lines(ledger: Ledger, full: bool) -> list[str]:
    claim = ledger.claim
    start = ["", f"**{ASSUMED_PUBLIC}.**"] if ledger.is_start_assumed_public else []
    if ledger.is_reproducible:
        head = "**Epsilon not claimed: the noise is reproducible** (drawn from a given seed, for tests)."
    else:
        head = (
            f"({claim.epsilon:g}, {claim.delta:g})-differentially private for the unit "
            f"`{claim.unit}` under `{claim.relation}`, if released alone."
        )
    unit = f"- unit: `{claim.unit}`; neighbouring relation: `{claim.relation}`"
    target = f"- target: epsilon {claim.epsilon:g} at delta {claim.delta:g}"
    told = [unit, target]
    lines = _label_lines(ledger, told) if claim.unit == "label" else _gaussian_lines(ledger, told, full)
    return [head, *start, "", *lines]


def _label_lines(ledger: Ledger, claim: list[str]) -> list[str]:
    return [
        "Hidden is only which answer of a pair was preferred. **Prompts and both answers are not "
        "protected**: the"
        " adapter may reproduce them.",
        "",
        *claim,
        "- mechanism: randomised response; each preference was flipped with probability"
        f" {ledger.flip_probability:.6g}, once, before training",
        "- the robust DPO loss with that probability; no clipping and no noise, since training costs nothing "
        "more",
        "",
        "Not covered: choosing this adapter among others, and other models trained on the same preferences.",
    ]


def _gaussian_lines(ledger: Ledger, claim: list[str], full: bool) -> list[str]:
    return [
        *claim,
        "- accountant: privacy loss distribution",
        "- mechanism: DP-SGD with Poisson sampling, Gaussian noise on every trained weight,"
        f" clip {ledger.acting.clip:g} per unit",
        *_mechanism_lines(ledger, full),
        "",
        "Not covered: choosing this adapter among others, other models trained on the same people, and the"
        " rounding of Gaussian noise in floating point.",
    ]


def _mechanism_lines(ledger: Ledger, full: bool) -> list[str]:
    """Rate, steps and noise go with the full ledger alone; never where the population was counted from the
    data, since any two would reveal it.
    """
    if ledger.population_assumed or not full:
        counted = ", since they would tell the number of units, which was counted from the data"
        return [
            f"- spent epsilon at most {rounded_up(ledger.epsilon):.2f}",
            "- rate, steps, batch and noise multiplier: in the full ledger alone"
            + (counted if ledger.population_assumed else ""),
        ]
    mechanism = ledger.acting
    return [
        f"- expected batch {ledger.expected_batch} of a declared population of {ledger.population}"
        f" (rate {mechanism.sampling_rate:.6g}), {mechanism.steps} steps",
        f"- noise multiplier {mechanism.noise_multiplier:.6g}; spent epsilon {ledger.epsilon:.4g}"
        f" (Renyi, as a second opinion: {ledger.epsilon_rdp:.4g})",
    ]
