"""Candidates as sequences: what counts, changed copies, prefixes, and what does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpaudit.data import canary
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.stages.attack.items import Item, changed, exchange, items_of
from dpaudit.stages.prepare import prepare
from dpaudit.stages.prepare.candidates import CandidateUnits, load_candidates
from dpaudit.storage import run_store
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates as Sizes
from dpaudit.suite.suite import Data, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
LONG = Record("long", (Turn("user", "a b c " * 60), Turn("assistant", "never seen")))
HALF = Record("half", (Turn("user", "What?"), Turn("assistant", "word " * 80)))
SHORT = Record("short", (Turn("user", "What?"), Turn("assistant", "Take 500 mg of Paracetamol.")))


@pytest.fixture(scope="module")
def tokenizer(toy_model_dir: Path) -> Any:
    from dpaudit.models import tokenizers

    return tokenizers.load_tokenizer(str(toy_model_dir))


def plan(max_length: int = 96) -> Plan:
    schedule = Schedule(8, 4, 0.01)
    return Plan(Suite("s", Training(schedule, schedule), model=Model(max_length=max_length)))


def canaries(count: int = 3, copies: int = 1) -> list[canary.Canary]:
    return canary.draw("record_number", count, 6, copies, "mia", set(), "0")


def candidates(*records: Record, copies: int = 1) -> CandidateUnits:
    return CandidateUnits(canaries(copies=copies), {r.id: [r] for r in records}, {}, {})


def spelled(item: Item, tokenizer: Any) -> str:
    return str(tokenizer.decode(np.array(item.encoded.input_ids)[item.counted])).strip()


def test_a_record_longer_than_the_context_is_scored_on_what_fits_and_counted(tokenizer: Any) -> None:
    found = items_of(plan(), candidates(LONG, HALF, SHORT), "sft", tokenizer)
    assert {i.example for i in found.items if i.kind == "record"} == {"half", "short"}
    assert found.counts() == {
        "canary": {"truncated": 0, "unscored": 0},
        "record": {"truncated": 1, "unscored": 1},
    }
    half = next(i for i in found.items if i.example == "half")
    assert len(half.encoded.input_ids) == 96 and half.counted[-1]


def test_every_record_of_a_canary_patient_has_its_item(tokenizer: Any) -> None:
    found = items_of(plan(), candidates(copies=4), "sft", tokenizer).items
    assert len(found) == 12
    texts = {tokenizer.decode(i.encoded.input_ids) for i in found}
    assert len(texts) == 12 and {spelled(i, tokenizer) for i in found} == {
        c.secret for c in canaries(copies=4)
    }


def test_a_context_that_cuts_a_secret_is_one_line_without_it(tokenizer: Any) -> None:
    with pytest.raises(UsageError, match="room for the secret") as error:
        items_of(plan(20), candidates(), "sft", tokenizer)
    assert not any(c.secret in str(error.value) for c in canaries())


def test_a_change_touches_only_what_counts(tokenizer: Any) -> None:
    found = items_of(plan(), candidates(SHORT), "sft", tokenizer).items
    for item in found:
        change = str.upper if item.kind == "record" else lambda _: "999999"
        (other,) = changed([(item, change)], tokenizer, 96)
        told = spelled(other, tokenizer)
        assert ("TAKE 500 MG" in told) if item.kind == "record" else told == "999999"
        before = int(np.flatnonzero(item.counted)[0])
        assert other.encoded.input_ids[:before] == item.encoded.input_ids[:before]


def test_a_neighbour_is_another_text_of_the_same_kind_and_always_the_same_one(tokenizer: Any) -> None:
    item, *_, record = items_of(plan(), candidates(SHORT), "sft", tokenizer).items
    for number in range(5):
        again = [(item, exchange(item, [], 0.5, number)) for _ in range(2)]
        copy, same = (spelled(other, tokenizer) for other in changed(again, tokenizer, 96))
        assert copy.isdigit() and len(copy) == 6
        assert copy == same
    (other,) = changed([(record, exchange(record, ["fever", "rest"], 0.4, 0))], tokenizer, 96)
    told = spelled(other, tokenizer)
    words = record.source.record.turns[-1].text.split()
    differing = [new for new, old in zip(told.split("<")[0].split(), words, strict=True) if new != old]
    assert 1 <= len(differing) <= 2 and set(differing) <= {"fever", "rest"}


def test_real_candidates_have_an_item_each(tmp_path: Path, toy_model_dir: Path, tokenizer: Any) -> None:
    sizes = Sizes(canaries=12, canary_length=4, records=6, extraction=0)
    made = plan(200)
    suite = replace(made.suite, data=Data(patients=30, heldout=2), candidates=sizes, grid=Grid((8.0,)))
    made = replace(made, suite=suite)
    run_dir = run_store.open_or_create(made.to_json(), "items", tmp_path)
    prepare.run(run_dir, made, QUIET)
    found = load_candidates(run_dir)
    scored = items_of(made, found, "sft", tokenizer)
    assert {i.example for i in scored.items} == {c.id for c in found.canaries} | set(found.records)
    assert sum(i.kind == "record" for i in scored.items) == sum(map(len, found.records.values()))
