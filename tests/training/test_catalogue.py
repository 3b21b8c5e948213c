"""Each broken trainer fails the checks that it should, the engine none; what was replaced comes back."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from dpaudit.privacy.accountants import calibrate
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training import catalogue, conformance, dpsgd, dry, guards
from dpaudit.training.catalogue import ENGINE, FAULTS, Fault

STEPS, RATE, CLIP = 240, 0.01, 0.5
SETTING = {"population": 6000, "batch": 60, "canaries": 1000}
CLAIM = Claim(4.0, 1e-5, "record", "add_or_remove")
FAILED = {  # by conformance and ledger
    "noise halved": {"noise of every weight"},
    "noise quartered": {"noise of every weight"},
    "rate understated by 4": {"units a step", "draws of a unit"},
    "shuffled, accounted as Poisson": {"units a step", "draws of a unit"},
    "one of three epochs counted": {"steps counted"},
    "average clipped": {"one unit's part of a sum"},
    "same noise every step": {"noise fresh in every step"},
    "weights without noise": {"noise of every weight"},
    "engine never stepped": {"noise of every weight", "one unit's part of a sum"},
    "pair clipped as two rows": {"one unit's part of a sum"},
    "patient's records clipped one by one": {"one unit's part of a sum"},
    "divisor from the data": {"noise of every weight", "one unit's part of a sum"},
    "weighted sampler": {"draws of a unit"},
    "accountant lost on resume": {"steps counted"},
    "weights that never move": {"weights moved"},
    "tuning not counted": set(),
}


@cache
def noise_for(rate: float, steps: int) -> float:
    return calibrate(CLAIM, rate, steps)


def checked(fault: Fault, seed: int) -> dict[str, str]:
    setting = dry.Setting(**SETTING, sequences=fault.sequences)
    blank = catalogue.ledger_of(fault, Mechanism(1.0, RATE, STEPS, CLIP))
    acting = Mechanism(noise_for(blank.sampling_rate, blank.steps), RATE, STEPS, CLIP)
    coins, sampling = (np.random.default_rng([seed, part]) for part in range(2))
    generator = dpsgd.noise_generator(torch.device("cpu"), seed)
    with catalogue.planted(fault, setting):
        seen = dry.train(setting, catalogue.told_to(fault, acting), coins, sampling, generator)
    found = conformance.checks(seen, catalogue.ledger_of(fault, acting), CLAIM)
    return {check.name: check.outcome for check in found}


def test_the_engine_passes_every_check_that_can_be_made() -> None:
    for seed in range(8):
        outcomes = checked(ENGINE, seed)
        assert {name for name, outcome in outcomes.items() if outcome == "not observable"} == set(
            conformance.UNSEEN
        )
        assert set(outcomes.values()) == {"pass", "not observable"}, outcomes


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_broken_trainer_fails_what_it_should(fault: Fault) -> None:
    outcomes = checked(fault, 3)
    failed = {name for name, outcome in outcomes.items() if outcome == "fail"}
    assert failed >= FAILED[fault.name]
    if fault.seen_by in ("conformance", "ledger"):
        assert failed
    if fault.seen_by == "not observable in one run":
        assert not failed


def test_a_ledger_above_its_claim_fails() -> None:
    setting = dry.Setting(**SETTING)
    ledger = Mechanism(noise_for(RATE, STEPS), RATE, STEPS, CLIP)
    seen = dry.train(
        setting,
        ledger,
        *(np.random.default_rng(part) for part in range(2)),
        dpsgd.noise_generator(torch.device("cpu"), 1),
    )
    lower = Claim(3.9, 1e-5, "record", "add_or_remove")
    failed = [check for check in conformance.checks(seen, ledger, lower) if check.outcome == "fail"]
    assert [check.name for check in failed] == ["epsilon of the ledger"]
    assert failed[0].detail == "epsilon: expected at most 3.9 as claimed, seen 4"


def test_what_was_replaced_comes_back_also_after_an_error() -> None:
    setting = dry.Setting(**SETTING)
    places = [place[:2] for fault in FAULTS for place in fault.replaced]
    places += [(guards, guard) for guard in catalogue.GUARDS]
    before = [getattr(*place) for place in places]
    for fault in FAULTS:
        with pytest.raises(LookupError), catalogue.planted(fault, setting):
            assert all(getattr(*place[:2]) not in before for place in fault.replaced)
            raise LookupError
    assert before == [getattr(*place) for place in places]


def test_names_are_unique() -> None:
    names = [fault.name for fault in (ENGINE, *FAULTS)]
    assert len(set(names)) == len(names)
    assert FAILED.keys() == set(names) - {ENGINE.name}


def test_every_broken_trainer_has_a_line_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    lines = dict(
        re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", page.partition("## The catalogue")[2], re.MULTILINE)
    )
    for fault in FAULTS:
        assert lines[fault.name].startswith(fault.seen_by)
