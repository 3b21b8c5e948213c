"""What a run is of: the data, the base model, who ran it and when, and what no epsilon covers."""

from dataclasses import dataclass

from dpaudit.schema import Count


@dataclass(frozen=True)
class DataUsed:
    """The data by its sources and counts. None where the run does not say: never zero in its place."""

    source: str
    preference: str | None  # where preference pairs come from; None without any
    text: str | None  # where plain text comes from
    records: Count | None  # dialogues read
    pairs: Count | None
    texts: Count | None
    patients: Count | None  # that the data name
    by_coin: Count | None  # real units that a fair coin put in or left out
    units: Count | None  # expected in training, planted ones among them
    canaries: Count | None
    secrets: Count | None  # planted several times, or kept out
    heldout: Count | None  # records that no adapter was trained on
    heldout_pairs: Count | None
    dropped: Count | None  # records above the limit for one patient
    cut: Count | None  # sequences that were longer than the model was given, in the adapter with most of them
    rows_limit: Count | None  # rows after which reading stopped, as the suite says; None for all
    dates: str | None  # that the records are of, as the suite declares
    languages: str | None  # likewise
    scripts: dict[str, Count]  # records read, of any part, by the script of most of their words


@dataclass(frozen=True)
class BaseModel:
    """The base by its files. The hashes are the first 128 bits of SHA-256."""

    name: str
    weights: dict[str, str]  # file of weights -> hash; empty where training kept none
    licence: str | None  # as the model's folder states it


@dataclass(frozen=True)
class Uncovered:
    """A setting that may have been chosen by looking at the private data."""

    what: str
    value: Count


@dataclass(frozen=True)
class Identity:
    """Everything that tells this run from another, for who signs for it."""

    data: DataUsed
    base: BaseModel
    responsible: str | None  # whom the suite's description names; no account name is read
    declared: str  # when the settings were first written down: UTC
    changed: str  # when they last were
    uncovered: tuple[Uncovered, ...]
