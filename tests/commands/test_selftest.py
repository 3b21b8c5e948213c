"""The self-test passes on the engine and fails as soon as training loses its noise, its clip or its
sampler.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpaudit.commands import selftest
from dpaudit.evidence.guesses import Guesses
from dpaudit.system.progress import Progress
from dpaudit.training import catalogue, dpsgd, engine, guards

HALVED = next(fault for fault in catalogue.FAULTS if fault.name == "noise halved")
TUNING = next(fault for fault in catalogue.FAULTS if fault.name == "tuning not counted")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "CLAIMS", (4.0,))
    monkeypatch.setattr(selftest, "FAULT_RUNS", 1)
    monkeypatch.setattr(selftest, "ENGINE_RUNS", 3)
    monkeypatch.setattr(selftest, "STEPS", 120)


def told(*faults: catalogue.Fault) -> dict[str, Any]:
    return selftest.run(Progress(quiet=True), faults=faults)


def test_the_engine_passes_and_a_broken_trainer_is_caught() -> None:
    found = told(HALVED, TUNING)
    assert found["passed"]
    (row,) = found["power"]
    assert (row["power"], row["conformance"], row["ledger"]) == (1.0, 1.0, 0.0)
    assert row["true_epsilon"] > 20
    (engine_row,) = found["correct_engine"]
    assert engine_row["audits"] == 15
    assert engine_row["lower"] <= engine_row["rate"] <= engine_row["upper"]
    (page,) = found["correct_page"]
    assert page["pages"] == 15 and page["passed"] and page["refuted"] <= 3
    assert found["not_observable"] == ["tuning not counted"]


def test_a_page_of_accused_trainings_fails() -> None:
    guesses = Guesses(1000, 500, 250, 500, False, 0.95)
    accused = [[selftest.Look(1e-3, guesses)] * 40]
    assert not selftest._page_row(accused)["passed"]
    assert selftest._page_row([[selftest.Look(0.5, guesses)] * 40])["passed"]
    assert not selftest._page_row([[]])["passed"]  # no page is no good news


def test_the_same_seed_gives_the_same_result() -> None:
    assert told(HALVED) == told(HALVED)


def without_noise(original: Any) -> Any:
    return lambda layout, std, generator: torch.zeros(layout.coordinates)


def unscaled_noise(original: Any) -> Any:
    """`.mul_(std)` deleted: the noise no longer follows what was asked for."""
    return lambda layout, std, generator: original(layout, 1.0, generator)


def half_noise(original: Any) -> Any:
    return lambda layout, std, generator: original(layout, std / 2, generator)


def unclipped(original: Any) -> Any:
    return lambda gradients, clip: (torch.cat([part.sum(0) for part in gradients]), torch.zeros(()))


def everybody(original: Any) -> Any:
    return lambda units, rate, generator: original(units, min(2 * rate, 1.0), generator)


LOST = [
    ("gaussian_noise", without_noise),
    ("gaussian_noise", unscaled_noise),
    ("gaussian_noise", half_noise),
    ("clipped_sum", unclipped),
    ("PoissonSampler", everybody),
]


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(("name", "lost"), LOST, ids=lambda value: getattr(value, "__name__", value))
def test_it_fails_where_training_lost_a_part(
    name: str, lost: Callable[[Any], Any], guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpsgd, name, lost(getattr(dpsgd, name)))
    if not guarded:
        monkeypatch.setattr(guards, "check_noised", lambda *arguments: None)
        monkeypatch.setattr(guards, "check_clipped", lambda *arguments: None)
    assert not told()["passed"]


def test_it_fails_where_the_sum_never_gets_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of `engine.private_sum` that draws the noise draws zeros instead."""
    original = dpsgd.gaussian_noise

    class Zeroed:
        def __getattr__(self, name: str) -> Any:
            return getattr(dpsgd, name)

        @staticmethod
        def gaussian_noise(*arguments: Any) -> Any:
            return torch.zeros_like(original(*arguments))

    monkeypatch.setattr(engine, "dpsgd", Zeroed())
    found = told()
    assert not found["passed"]
    assert "noise on lora_A" in found["correct_engine"][0]["stopped"]


def test_a_check_that_misses_its_fault_fails_the_self_test() -> None:
    blind = catalogue.Fault("nothing is wrong", "mechanism test", acting=lambda m: m)
    found = told(blind)
    assert not found["passed"]
    assert found["correct_engine"][0]["passed"]


@pytest.mark.slow
def test_the_whole_catalogue_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = selftest.run(Progress(quiet=True), workers=2)
    assert found["passed"], [row for row in found["power"] + found["correct_engine"] if not row["passed"]]
    assert len(found["power"]) == 3 * 15


def test_other_processes_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # a fresh process has the module as it is
    cell = selftest.Cell(HALVED, 4.0, 0.6059, 1, 5)
    ((_, alone),) = selftest._done([cell], 1, lambda n: None)
    ((_, sent),) = selftest._done([cell], 2, lambda n: None)
    assert alone == sent
    assert alone.caught["mechanism test"] == alone.audits == selftest.AUDITS
