"""Canaries along axes of a model's own weights: drawn, clipped and released as every other unit is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import worlds

from dpaudit.errors import UsageError
from dpaudit.models.fused import trainable
from dpaudit.privacy.accountants import calibrate
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import axes, catalogue, conformance, dpsgd, dry, loop
from dpaudit.training.axes import Axes
from dpaudit.training.catalogue import FAULTS
from dpaudit.training.state import Snapshot

BATCH, STEPS, CLIP = 20, 60, 0.3
UNITS = worlds.record_units(40)
INCLUDED = np.random.default_rng(5).random(300) < 0.5
SILENT = Mechanism(0.0, 0.1, STEPS, CLIP)
SPEC = Claim(8.0, 1e-5, "record", "add_or_remove")


def trained(
    mechanism: Mechanism = SILENT,
    units: Any = UNITS,
    sequences: int = 1,
    micro_batch: int = 256,
    steps: int = STEPS,
    **options: Any,
) -> tuple[Axes, loop.Result]:
    model = worlds.lora_model()
    along = axes.spread(trainable(model), INCLUDED, sequences)
    schedule = Schedule(BATCH, steps, 1e-2)
    noise = dpsgd.noise_generator(torch.device("cpu"), 4)
    sampling = dpsgd.sampling_generator(4)
    done = loop.train(
        model,
        units,
        schedule,
        mechanism,
        sampling=sampling,
        noise=noise,
        micro_batch=micro_batch,
        axes=along,
        **options,
    )
    return along, done


def test_every_canary_has_a_coordinate_of_its_own_and_every_weight_its_part() -> None:
    weights = trainable(worlds.lora_model())
    along = axes.spread(weights, INCLUDED)
    assert len(set(along.places)) == INCLUDED.size
    counts = [sum(name == weight for weight, _ in along.places) for name in weights]
    assert max(counts) - min(counts) <= 1
    assert all(0 <= place < weights[name].numel() for name, place in along.places)


def test_more_canaries_than_coordinates_are_refused_in_one_line() -> None:
    with pytest.raises(
        UsageError, match=r"candidates\.gradient: expected at most \d+ canaries per trainable weight"
    ):
        axes.spread(trainable(worlds.lora_model()), np.ones(2000, dtype=bool))


@pytest.mark.parametrize("sequences", [1, 3])
def test_without_noise_a_canary_shows_one_clip_in_the_steps_that_drew_it(sequences: int) -> None:
    _, done = trained(units=[], sequences=sequences)
    assert done.seen is not None
    observed = done.seen.observed
    assert observed.shape == (STEPS, INCLUDED.size)
    np.testing.assert_allclose(observed[:, ~INCLUDED], 0, atol=1e-6)
    np.testing.assert_allclose(observed, observed.round(), atol=1e-5)
    np.testing.assert_array_equal(observed[:, INCLUDED].round().sum(0), done.seen.times)
    np.testing.assert_array_equal(observed.round().sum(1), done.seen.drawn)


def test_other_units_are_trained_as_without_canaries() -> None:
    """With none of the canaries in, the weights are the same bytes."""
    ends = []
    for along in (axes.spread(trainable(worlds.lora_model()), np.zeros(300, dtype=bool)), None):
        model = worlds.lora_model()
        loop.train(
            model,
            UNITS,
            Schedule(BATCH, 10, 1e-2),
            replace(SILENT, noise_multiplier=0.5, steps=10),
            sampling=dpsgd.sampling_generator(4),
            noise=dpsgd.noise_generator(torch.device("cpu"), 4),
            axes=along,
        )
        ends.append([p.detach().clone() for p in trainable(model).values()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_killed_training_goes_on_to_the_same_observation() -> None:
    kept: list[Snapshot] = []
    mechanism = replace(SILENT, noise_multiplier=0.5)
    _, whole = trained(mechanism, keep=kept.append, keep_every=25)
    _, resumed = trained(mechanism, resume=kept[-1])
    assert whole.seen is not None and resumed.seen is not None
    np.testing.assert_array_equal(whole.seen.observed, resumed.seen.observed)
    np.testing.assert_array_equal(whole.seen.times, resumed.seen.times)
    np.testing.assert_array_equal(whole.seen.drawn, resumed.seen.drawn)


def failed(name: str) -> set[str]:
    fault = next(f for f in (catalogue.ENGINE, *FAULTS) if f.name == name)
    noise = calibrate(SPEC, SILENT.sampling_rate, STEPS)
    ledger = catalogue.ledger_of(fault, replace(SILENT, noise_multiplier=noise))
    with catalogue.planted(fault, dry.Setting(len(UNITS) + INCLUDED.size, BATCH, INCLUDED.size)):
        _, done = trained(
            catalogue.told_to(fault, replace(SILENT, noise_multiplier=noise)), sequences=fault.sequences
        )
    assert done.seen is not None
    return {c.name for c in conformance.checks(done.seen, ledger, SPEC) if c.outcome == "fail"}


def test_the_engine_passes_what_it_should_with_a_model() -> None:
    assert failed("the engine itself") == set()


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("noise halved", "noise of every weight"),
        ("rate understated by 4", "units a step"),
        ("pair clipped as two rows", "one unit's part of a sum"),
        ("divisor from the data", "one unit's part of a sum"),
    ],
)
def test_a_broken_trainer_fails_what_it_should_with_a_model(name: str, check: str) -> None:
    assert check in failed(name)
