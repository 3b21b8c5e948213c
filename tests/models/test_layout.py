"""The flat order of all weights, and unit gradients in it against sums over rows one by one."""

import pytest
import torch
from torch import Tensor

from dpaudit.models import layout
from dpaudit.models.layout import Layout, UnitGradients
from dpaudit.models.low_rank import add_low_rank, to_rank

CPU = torch.device("cpu")
WEIGHTS = Layout({"a": (2, 5), "b": (4, 2), "c": (3,)}, frozenset("b"))
TWO = Layout({"a": (2, 5), "b": (4, 2)}, frozenset("b"))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_vector_and_its_weights_are_each_others() -> None:
    named = {"a": random(2, 5), "b": random(4, 2, seed=1), "c": random(3, seed=2)}
    vector = WEIGHTS.vector(named)
    assert vector.shape == (21,) and WEIGHTS.coordinates == 21
    for name, view in WEIGHTS.views(vector).items():
        assert torch.equal(view, named[name])
        for index, value in enumerate(named[name].flatten()):
            assert vector[WEIGHTS.place(name, index)] == value
    assert torch.equal(vector[10:18], named["b"].T.flatten())  # as its transpose


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 21 coordinates, got 20"):
        WEIGHTS.views(torch.zeros(20))


@pytest.mark.parametrize("length", [1, 9, 12, 100])
def test_parts_hold_every_weight_once_in_order(length: int) -> None:
    parts = WEIGHTS.parts(length)
    assert [name for part in parts for name in part] == ["a", "b", "c"]
    assert len(parts) == {1: 3, 9: 3, 12: 2, 100: 1}[length]


@pytest.mark.parametrize("part_bytes", [1, 2**24])
@pytest.mark.parametrize(
    ("unit_of_row", "units"), [([0, 1, 2], 3), ([0, 0, 1, 1], 2), ([0, 0, 1], 2), ([2, 0, 0], 3), (None, 1)]
)
def test_rows_are_summed_by_unit(
    unit_of_row: list[int] | None, units: int, part_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice into one weight, never into the other, whose gradient is zero."""
    monkeypatch.setattr(layout, "PART_BYTES", part_bytes)
    of = unit_of_row or [0, 0, 0]
    kept = UnitGradients(TWO, units, unit_of_row, CPU)
    expected = torch.zeros(units, 2, 4)
    for seed in (0, 10):
        low, wide = random(2, len(of) * 6, seed=seed), random(len(of) * 6, 4, seed=seed + 1)
        kept.add("b", low, wide, 0.5)
        for row, unit in enumerate(of):
            mine = slice(6 * row, 6 * row + 6)
            expected[unit] += 0.5 * low[:, mine] @ wide[mine]
    assert len(kept.parts()) == (2 if part_bytes == 1 else 1)
    torch.testing.assert_close(kept.named()["b"], expected.mT)
    assert not kept.named()["a"].any()


def test_what_a_gpu_does_in_half_precision_has_the_shapes_and_numbers_that_it_should() -> None:
    """Without a GPU: the operations that it would run are looked up for their shapes alone."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        gpu = torch.device("cuda", 0)
        wide = torch.empty(12, 5, dtype=torch.bfloat16, device=gpu)
        low = to_rank(torch.empty(2, 5, device=gpu), wide)
        assert (low.shape, low.dtype) == ((2, 12), torch.float32)
        assert add_low_rank(wide, low, torch.empty(2, 5, device=gpu), 2.0) is wide
        for unit_of_row in ([0, 0, 1, 1], [0, 1, 1, 1]):
            kept = UnitGradients(TWO, 2, unit_of_row, gpu)
            kept.add("a", low, wide, 1.0)
            kept.add("a", low, wide, 1.0)
            (part,) = kept.parts()
            assert (part.shape, part.dtype) == ((2, 18), torch.float32)
