"""A sequence whose items are made at access."""

from collections.abc import Callable, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class Lazy(Sequence[T]):
    """`length` items, of which `item` makes number `place` at every access; nothing is kept."""

    def __init__(self, length: int, item: Callable[[int], T]) -> None:
        self._places, self._item = range(length), item

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        places = self._places[index]  # a negative index counts from the end; IndexError beyond it
        return [self._item(place) for place in places] if isinstance(places, range) else self._item(places)
