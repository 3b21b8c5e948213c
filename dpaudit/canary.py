"""Canaries: planted examples with a secret that is drawn uniformly from a declared space."""

from dataclasses import dataclass
from typing import Any

from dpaudit.corpus import Record


@dataclass(frozen=True)
class Canary:
    """One canary unit: its records, the secret inside the last assistant turn, and the space it was drawn from.

    Record texts are `template` with the secret at `{secret}`; the secret is a tuple of `alphabet` symbols joined
    by `separator`, uniform over all `len(alphabet) ** length` of them. `purpose` is `mia` (coin-flipped, occurs
    once) or `extraction`. Whether it was planted is not here: that is kept in secret/.
    """

    id: str
    records: tuple[Record, ...]
    secret: str
    alphabet: tuple[str, ...]
    length: int
    separator: str
    purpose: str
    pair: Record | None = None  # its preference pair, for DPO arms

    @property
    def space(self) -> int:
        return len(self.alphabet) ** self.length

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "records": [r.to_json() for r in self.records],
            "secret": self.secret,
            "alphabet": list(self.alphabet),
            "length": self.length,
            "separator": self.separator,
            "purpose": self.purpose,
            "pair": self.pair.to_json() if self.pair else None,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Canary":
        return cls(
            row["id"],
            tuple(Record.from_json(r) for r in row["records"]),
            row["secret"],
            tuple(row["alphabet"]),
            row["length"],
            row["separator"],
            row["purpose"],
            Record.from_json(row["pair"]) if row.get("pair") else None,
        )
