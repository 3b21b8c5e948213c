"""What the arms without noise say of an audit: whether its attack could have refuted a claim, noise or
none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dpaudit.evidence import blind
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.verdict import conclude, guess_limit
from dpaudit.privacy.claim import Claim
from dpaudit.suite.grid import Arm, nonprivate

Audits = Mapping[Arm, Mapping[str, Any]]  # what the primary recipe found on each arm
KEPT = ("epsilon_lower", "ceiling", "confidence", "notion")


def row(audit: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the summary: arm, recipe, claim, bound and verdict."""
    kept = {key: audit["bound"][key] for key in KEPT}
    named = {key: audit[key] for key in ("arm", "recipe", "claim")}
    return {**named, **kept, **audit["verdict"]}


def behind(arm: Arm, claim: Claim, audits: Audits) -> dict[str, Any]:
    """What an arm's claim promises, and what this attack says of the same claim on the arm without noise.

    "control" is the non-private arm of the same method and loss, else of SFT, and None where there is none;
    with it go "control_epsilon_lower" and "control_verdict". Where that is not "refuted", "not refuted" tells
    nothing.
    """
    found = nonprivate(arm, list(audits))
    bound = audits[found]["bound"] if found else None
    return {
        "arm": arm.name,
        "epsilon": claim.epsilon,
        "guess_right_at_most": guess_limit(claim.epsilon, claim.delta),
        "control": found.name if found else None,
        "control_is_alike": (found.method, found.loss) == (arm.method, arm.loss) if found else None,
        "control_epsilon_lower": bound["epsilon_lower"] if bound else None,
        "control_verdict": (
            conclude(claim, Guesses.of_bound(bound), broken(audits[found])).verdict
            if found and bound
            else None
        ),
    }


def of_claims(audits: Audits, claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """Each arm without noise, measured as if it made each claim of the run; its own row is that of the
    smallest.

    "weak" is whether it proves no more than the smallest claim: then "not refuted" tells nothing of any arm.
    """
    rising = sorted(set(claims), key=lambda claim: claim.epsilon)
    open_arms = [audit for audit in audits.values() if not audit["claim"]]
    return [_control(audit, rising) for audit in open_arms] if rising else []


def _control(audit: Mapping[str, Any], rising: Sequence[Claim]) -> dict[str, Any]:
    bound, smallest = audit["bound"], rising[0]
    guesses, why = Guesses.of_bound(bound), broken(audit)
    verdicts = [conclude(claim, guesses, why) for claim in rising]
    label = (
        f"positive control: what the audit says of an un-noised adapter that claims eps={smallest.epsilon:g}"
    )
    return {
        **row(audit),
        **asdict(verdicts[0]),
        "claim": asdict(smallest),
        "claims": [{"epsilon": c.epsilon, **asdict(v)} for c, v in zip(rising, verdicts, strict=True)],
        "weak": bound["epsilon_lower"] <= smallest.epsilon,
        "label": label,
    }


def broken(audit: Mapping[str, Any]) -> str | None:
    """Why an audit's guesses prove nothing, by its blind baseline; None where they may, or there is none. Its
    canaries had coins.
    """
    seen = audit.get("blind")
    if not seen or seen["p_value"] is None:
        return None
    found = blind.finding(seen["auc_lower"], seen["auc_upper"], seen["p_value"], drawn_by_coin=True)
    return blind.SUPPORTS_NOTHING.get(found)
