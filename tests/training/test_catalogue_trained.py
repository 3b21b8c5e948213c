"""Every broken trainer of the catalogue, trained once on the embedded model, and the engine itself beside
them.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch

from dpaudit.data import clinic
from dpaudit.evidence import whitebox
from dpaudit.models import adapter_files, hf, tokenizers
from dpaudit.models.encode import encode_record
from dpaudit.models.fused import trainable
from dpaudit.privacy.accountants import calibrate
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Lora, Schedule
from dpaudit.training import axes, catalogue, conformance, dpsgd, dry, loop
from dpaudit.training.catalogue import ENGINE, FAULTS, Fault
from dpaudit.training.examples import Example, UnitExamples

BASE, LENGTH = "builtin:tiny", 64
PUBLIC = dry.Setting(population=2000, batch=40, canaries=1000)
STEPS, CLIP, DELTA, EPSILON = 150, 0.5, 1e-5, 4.0
SPEC = Claim(EPSILON, DELTA, "record", "add_or_remove")


@dataclass(frozen=True)
class Caught:
    mechanism_test: bool
    conformance: bool
    ledger: bool


@cache
def units() -> list[UnitExamples]:
    """As many dialogues of the clinic as there are units that are no canaries."""
    tokenizer, found = tokenizers.load_tokenizer(BASE), []
    patient = 0
    while len(found) < PUBLIC.population - PUBLIC.canaries:
        found += clinic.told(clinic.patient(0, patient))[0]
        patient += 1
    encoded = [encode_record(r, tokenizer, LENGTH, LENGTH, LENGTH) for r in found]
    return [[Example(one)] for one in encoded[: PUBLIC.population - PUBLIC.canaries]]


def trained(fault: Fault, seed: int) -> Caught:
    rate = PUBLIC.batch / PUBLIC.population
    blank = catalogue.ledger_of(fault, Mechanism(1.0, rate, STEPS, CLIP))
    noise = calibrate(SPEC, blank.sampling_rate, blank.steps)
    acting = Mechanism(noise, rate, STEPS, CLIP)
    ledger = catalogue.ledger_of(fault, acting)
    model = adapter_files.new_adapter(hf.load_model(BASE, "float32", None, None), Lora(), seed)
    included = np.random.default_rng([seed, 1]).random(PUBLIC.canaries) < 0.5
    along = axes.spread(trainable(model), included, fault.sequences)
    with catalogue.planted(fault, PUBLIC):
        done = loop.train(
            model,
            units(),
            Schedule(PUBLIC.batch, STEPS, 1e-3),
            catalogue.told_to(fault, acting),
            sampling=dpsgd.sampling_generator(seed),
            noise=dpsgd.noise_generator(torch.device("cpu"), seed),
            axes=along,
        )
    seen = done.seen
    assert seen is not None
    claim = Claim(EPSILON, DELTA, "record", "add_or_remove")
    tested = whitebox.tested(seen.observed, seen.included, ledger, claim, 0.95)
    failed = {check.name for check in conformance.checks(seen, ledger, SPEC) if check.outcome == "fail"}
    by_ledger = set(conformance.LEDGER)
    return Caught(tested.p_value <= 0.05, bool(failed - by_ledger), bool(failed & by_ledger))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_broken_trainer_is_caught_by_the_check_named(fault: Fault) -> None:
    caught = trained(fault, seed=1)
    if fault.seen_by == "not observable in one run":
        assert not (caught.conformance or caught.ledger)
    else:
        assert getattr(caught, fault.seen_by.replace(" ", "_")), caught


@pytest.mark.slow
def test_the_engine_is_not_caught() -> None:
    assert trained(ENGINE, seed=1) == Caught(False, False, False)
