"""What arms of each method learn from a row of candidates.jsonl, and how much of all that is canaries."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dpaudit.data.corpus import Part, Record, as_text
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Method

# part of a unit -> the method that learns from it
METHODS: dict[Part, Method] = {"texts": "cpt", "records": "sft", "pairs": "dpo"}
Row = dict[str, Any]


def examples_of(row: Row, method: str) -> list[Record]:
    """What an arm of this method learns from one row of candidates.jsonl."""
    if row["kind"] == "canary" and method != "sft":
        if method == "cpt":
            return [as_text(Record.from_json(row["records"][0]))]
        return [Record.from_json(row["pair"])] if row.get("pair") else []
    part = next(part for part, name in METHODS.items() if name == method)
    return [Record.from_json(r) for r in row.get(part, [])]


def expected_weight(row: Row) -> float:
    """The chance that a row is trained on, however its coin fell."""
    return 1.0 if row["kind"] == "certain" else 0.5


def units_in(examples: int, unit: str) -> int:
    """How many units a row's examples are: under unit patient they are one."""
    return min(examples, 1) if unit == "patient" else examples


@dataclass
class Shares:
    """Adds up rows as they pass: what is expected to be trained on, and what of it is canaries, by method."""

    unit: str
    # (method, measure, whether of canaries) -> expected total
    totals: dict[tuple[Method, str, bool], float] = field(default_factory=dict)
    canary_units: float = 0.0  # expected, of any method

    def passing(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows as they are, each counted when it is asked for."""
        for row in rows:
            for method in METHODS.values():
                self._add(row, method)
            if row["kind"] == "canary":
                self.canary_units += expected_weight(row) * units_in(len(row["records"]), self.unit)
            yield row

    def by_method(self) -> dict[str, dict[str, float]]:
        """Method -> expected share of canaries among its "units" and its "bytes" (UTF-8), from 0 to 1,
        independent of the coins.
        """
        shares_by_method: dict[str, dict[str, float]] = {}
        for method, measure in dict.fromkeys((method, measure) for method, measure, _ in self.totals):
            canaries = self.totals.get((method, measure, True), 0.0)
            whole = canaries + self.totals.get((method, measure, False), 0.0)
            shares_by_method.setdefault(method, {})[measure] = canaries / whole
        return {
            method: shares
            for method, shares in shares_by_method.items()
            if (method, "units", False) in self.totals
        }

    def _add(self, row: Row, method: Method) -> None:
        examples = examples_of(row, method)
        counted = {"units": units_in(len(examples), self.unit), "bytes": sum(map(_bytes, examples))}
        for measure, number in counted.items():
            if number:
                key = (method, measure, row["kind"] == "canary")
                self.totals[key] = self.totals.get(key, 0.0) + expected_weight(row) * number


def _bytes(record: Record) -> int:
    texts = (*(turn.text for turn in record.turns), record.chosen, record.rejected, record.text)
    return sum(len(text.encode()) for text in texts if text)


def expected_units(run_dir: RunDir, method: str, unit: str, twin: bool = False) -> int:
    """The expected number of units that a method trains on: candidates count half, however their coins fell.

    A `twin` has no canaries.
    """
    expected = 0.0
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if not (twin and row["kind"] == "canary"):
            expected += expected_weight(row) * units_in(len(examples_of(row, method)), unit)
    return int(expected)
