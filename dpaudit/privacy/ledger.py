"""What a model spent: the ledger that training writes as privacy.json, and the only code that knows its
keys.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.storage import custody
from dpaudit.storage.rundir import RunDir

FILE = "privacy.json"
FIGURES = ("noise_multiplier", "sampling_rate", "steps", "clip", "epsilon_spent")
RESPONSE = "randomised response"  # of labels; it is composed with nothing here


@dataclass(frozen=True)
class Ledger:
    """Claim, mechanism and what both accountants make of the steps that were done.

    It is made by `from_json` or `made`, which refuse what is no ledger.
    """

    data: Mapping[str, Any]  # as privacy.json keeps it, but for its hash and seal
    file: Path | None = field(default=None, compare=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], file: Path | None = None) -> "Ledger":
        """The ledger in `data`. Raises UsageError in one line where a key is missing or makes no
        sense.
        """
        kept = {key: value for key, value in data.items() if key != custody.KEY}
        ledger = cls(kept, file)
        where = str(file or FILE)
        try:
            ledger._check()
        except KeyError as error:
            raise UsageError(
                where, f"a privacy ledger with the key {error}", "a ledger without this key"
            ) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise UsageError(where, "a privacy ledger", f"{error!s:.120}") from None
        return ledger

    def _check(self) -> None:
        mechanism, claim = self.mechanism, self.claim
        if not claim.epsilon > 0:
            raise ValueError(f"expected epsilon > 0, got {claim.epsilon}")
        if mechanism and not claim.delta > 0:
            raise ValueError(f"expected delta in (0, 1), got {claim.delta}")
        float(self.epsilon), int(self.steps_done)

    def to_json(self) -> dict[str, Any]:
        return dict(self.data)

    @cached_property
    def claim(self) -> Claim:
        """What is claimed of the model released alone; an infinite epsilon claims nothing."""
        claim = self.data["claim"]
        return Claim(float(claim["epsilon"]), float(claim["delta"]), claim["unit"], claim["relation"])

    @cached_property
    def mechanism(self) -> Mechanism | None:
        """The mechanism with the stages before it. None for labels that went through randomised response.

        Where nothing is private it has no noise and an infinite clip.
        """
        if "flip_probability" in self.data["mechanism"]:
            return None
        earlier = tuple(_mechanism(stage) for stage in self.data.get("stages", ()))
        return replace(_mechanism(self.data["mechanism"]), stages=earlier)

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """All stages, the last one last, each without the stages before it; none under randomised
        response.
        """
        return self.mechanism.each if self.mechanism else ()

    @property
    def acting(self) -> Mechanism:
        """The mechanism of this training alone. Raises ValueError under randomised response."""
        if self.mechanism is None:
            raise ValueError("expected a mechanism with noise, got randomised response")
        return self.mechanisms[-1]

    @property
    def flip_probability(self) -> float:
        """Of a label, under randomised response."""
        return float(self.data["mechanism"]["flip_probability"])

    @property
    def epsilon(self) -> float:
        """Recorded as spent at the claim's delta, stages included, in nats; infinite where nothing is
        private.
        """
        return float(self.data["epsilon_pld"])

    @property
    def epsilon_rdp(self) -> float | None:
        """The same by the Renyi accountant; None where the ledger has none."""
        value = self.data.get("epsilon_rdp")
        return None if value is None else float(value)

    def epsilon_at(self, delta: float) -> float:
        """What is spent at another delta, in nats; randomised response needs none."""
        if math.isinf(self.epsilon) or delta == self.claim.delta or self.mechanism is None:
            return self.epsilon
        from dpaudit.privacy import accountants

        return accountants.epsilon_spent(self.mechanism, delta, self.claim.relation)

    def figures(self) -> dict[str, float | str | None]:
        """Mechanism and epsilon, JSON-ready under the names of FIGURES; None for what the mechanism lacks."""
        figures = _stage_row(self.acting) if self.mechanism else {}
        return {name: figures.get(name) for name in FIGURES} | {"epsilon_spent": as_json(self.epsilon)}

    @property
    def steps_done(self) -> int:
        return int(self.data["steps_done"])

    @property
    def is_private(self) -> bool:
        """Whether anything is claimed."""
        return math.isfinite(self.claim.epsilon)

    @property
    def is_reproducible(self) -> bool:
        """Whether the seed gives the same noise again, so that nothing is claimed."""
        return bool(self.data.get("reproducible_noise"))

    @property
    def is_start_assumed_public(self) -> bool:
        return bool(self.data.get("start_assumed_public"))

    @property
    def population(self) -> int:
        """Units that the rate was worked out from."""
        return int(self.data["population"])

    @property
    def population_assumed(self) -> bool:
        """Whether the population was counted from the data, where none was declared."""
        return bool(self.data["population_assumed"])

    @property
    def expected_batch(self) -> int:
        return int(self.data["expected_batch"])

    @property
    def arm(self) -> Mapping[str, Any]:
        """Method, loss, epsilon and seed of the arm."""
        return dict(self.data["arm"])

    @property
    def adapter_sha256(self) -> str | None:
        return self._text("adapter_sha256")

    @property
    def settings_sha256(self) -> str | None:
        """Of those settings of the adapter that act."""
        return self._text("adapter_settings_sha256")

    @property
    def base_files(self) -> Mapping[str, str] | None:
        """The base's files by name, with their SHA-256."""
        return self._mapping("base_files")

    @property
    def weights(self) -> Mapping[str, str] | None:
        """A merged model's files of weights by name, with their SHA-256."""
        return self._mapping("weights")

    @property
    def merged_from(self) -> Mapping[str, Any] | None:
        return self._mapping("merged_from")

    def _text(self, key: str) -> str | None:
        value = self.data.get(key)
        return value if isinstance(value, str) else None

    def _mapping(self, key: str) -> Mapping[str, Any] | None:
        value = self.data.get(key)
        return value if isinstance(value, dict) else None

    def at_step(self, steps_done: int) -> "Ledger":
        """The same ledger beside a checkpoint; epsilon stays that of all steps, which is never too
        low.
        """
        return self._with(steps_done=steps_done)

    def bound_to(self, adapter_sha256: str, settings_sha256: str, base_files: Mapping[str, str]) -> "Ledger":
        """The ledger of one adapter on one base."""
        return self._with(
            adapter_sha256=adapter_sha256,
            adapter_settings_sha256=settings_sha256,
            base_files=dict(base_files),
        )

    def merged(self, origin: Mapping[str, Any], weights: Mapping[str, str], salt: str = "") -> "Ledger":
        """The ledger of the model that the adapter was merged into. With a random `salt` its hash alone lets
        nobody find the numbers in it by trying them.
        """
        salted = {"salt": salt} if salt else {}
        return self._with(merged_from=dict(origin), weights=dict(weights), **salted)

    def _with(self, **changes: Any) -> "Ledger":
        return Ledger({**self.data, **changes})

    @property
    def beginning(self) -> dict[str, Any]:
        """What may not change between the steps of one arm, as JSON keeps it."""
        kept = {key: self.data[key] for key in ("claim", "mechanism", "stages")}
        return dict(json.loads(json.dumps(kept)))


def made(
    claim: Claim, mechanism: Mechanism, steps_done: int, arm: Mapping[str, Any], **facts: object
) -> Ledger:
    """The ledger of a training with noise, or of one without any (no claim, an infinite clip)."""
    from dpaudit.privacy import accountants

    spent: dict[str, float | str] = {"epsilon_pld": "inf", "epsilon_rdp": "inf"}
    if math.isfinite(mechanism.clip):
        acting = replace(mechanism, steps=steps_done)
        spent = {
            "epsilon_pld": accountants.epsilon_spent(acting, claim.delta, claim.relation),
            "epsilon_rdp": accountants.epsilon_rdp(acting, claim.delta),
        }
    *earlier, last = mechanism.each
    stages = [_stage_row(stage) for stage in earlier]
    head = {"arm": dict(arm), "claim": _claimed(claim), "mechanism": _stage_row(last), "stages": stages}
    return Ledger({**head, **facts, **spent, "steps_done": steps_done})


def of_labels(ledger: Ledger, claim: Claim, flip_probability: float) -> Ledger:
    """The ledger of a training on labels that randomised response gave: its epsilon is exact."""
    epsilon = as_json(claim.epsilon)
    return ledger._with(
        claim=_claimed(claim),
        mechanism={"name": RESPONSE, "flip_probability": flip_probability},
        epsilon_pld=epsilon,
        epsilon_rdp=epsilon,
    )


def _claimed(claim: Claim) -> dict[str, Any]:
    return {
        "epsilon": as_json(claim.epsilon),
        "delta": claim.delta,
        "unit": claim.unit,
        "relation": claim.relation,
    }


def _stage_row(mechanism: Mechanism) -> dict[str, Any]:
    """One stage alone."""
    return {
        "noise_multiplier": mechanism.noise_multiplier,
        "sampling_rate": mechanism.sampling_rate,
        "steps": mechanism.steps,
        "clip": mechanism.clip if math.isfinite(mechanism.clip) else None,
    }


def _mechanism(entry: Mapping[str, Any]) -> Mechanism:
    clip = math.inf if entry["clip"] is None else entry["clip"]
    earlier = tuple(_mechanism(stage) for stage in entry.get("stages", ()))
    return Mechanism(entry["noise_multiplier"], entry["sampling_rate"], entry["steps"], clip, earlier)


def as_json(epsilon: float) -> float | str:
    """JSON has no infinity."""
    return epsilon if math.isfinite(epsilon) else "inf"


def file_of(arm: str) -> str:
    """The ledger of an arm, in the run directory."""
    return f"train/{arm}/{FILE}"


def of_arm(run_dir: RunDir, arm: str) -> Ledger:
    """The ledger of an arm of a run. Raises UsageError where it is missing or is no ledger."""
    return Ledger.from_json(run_dir.read_json(file_of(arm)), run_dir.file(file_of(arm)))


def digest(file: Path) -> str:
    """The SHA-256 of a ledger's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
