"""`verify --observed`: the verdict, its page in both languages, and records that no verdict may rest on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import AXES, CLAIM, CLAIMED, KEY, ROWS, SIGMA, STEPS, made
from typed import Call, one_line

from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.findings.observed import ObservedVerification
from dpaudit.observing import conformance, keys, record
from dpaudit.observing.record import Accounted, Record
from dpaudit.page import chinese, render
from dpaudit.stages import verify_observed
from dpaudit.storage import custody

MECHANISM = f"sigma={SIGMA},rate=1/20,steps={STEPS}"
UNITS = ROWS + int(KEY.included.sum())
NOTHING: dict[str, Any] = {  # of an optimizer that clips no row
    "observed": np.zeros((STEPS, AXES), np.float32),
    "drawn": np.zeros(STEPS, int),
    "canaries": np.zeros(STEPS, int),
    "row_draws": np.array([UNITS]),
    "noise_squares": np.zeros(2),
    "noise_values": np.zeros(2, int),
    "one_row": np.zeros(0),
}
RECORDS: dict[str, dict[str, Any]] = {
    "correct": {},
    "not closed": {"ended": False, "accountant": None, "accounted": (), "compared": np.zeros(STEPS, int)},
    "attached late": {"accounted": (Accounted(SIGMA, 1 / 20, 80),)},
    "silent axes": {"observed": np.zeros((STEPS, AXES), np.float32)},
    "nobody drawn": {
        **NOTHING,
        "noise_squares": np.full(2, SIGMA**2 * 9e4),
        "noise_values": np.full(2, 90000),
    },
    "not private": {**NOTHING, "unclipped": STEPS, "clipping": "none", "noise_multiplier": np.zeros(STEPS)},
    "many faults": {
        "still": ("b.weight",),
        "noise_multiplier": np.full(STEPS, 0.3),
        "noise_squares": np.array([1.0, 1.0]),
        "fresh": np.full(STEPS, 20.0),
        "divisor": np.linspace(40, 50, STEPS),
        "one_row": np.full(3, 2.0),
        "sequences": 2,
        "unclipped": 3,
        "accounted": (Accounted(0.3, 0.05, 20), Accounted(0.0, 0.05, 3)),
    },
    "shuffled": {"row_draws": np.array([0, 0, 0, UNITS]), "drawn": np.full(STEPS, UNITS // 20)},
    "per layer": {"clipping": "per layer", "processes": 2, "mixed": 5},
}


def found(seen: Record, *said: str) -> ObservedVerification:
    asked = tuple(map(claims.parse, said or (CLAIM,)))
    request = verify_observed.Request(Path("seen.npz"), Path("key.json"), asked, CLAIMED)
    return verify_observed.concluded(verify_observed.Checked(request, KEY, seen, custody.NOT_COMPARED))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.write(KEY, tmp_path / "key.json")
    record.write(made(), tmp_path / "seen.npz")
    return tmp_path


def asked(folder: Path, **changed: object) -> list[str]:
    given = {
        "observed": folder / "seen.npz",
        "key": folder / "key.json",
        "claim": CLAIM,
        "mechanism": MECHANISM,
        "out": folder / "verification",
    }
    return [
        "verify",
        *(part for name, value in (given | changed).items() for part in (f"--{name}", str(value))),
    ]


def test_verify_gives_word_page_and_exit_code(folder: Path, call: Call) -> None:
    done = call(*asked(folder), "--json")
    whole = json.loads(done.out)
    assert (done.code, whole["answers"][0]["verdict"]) == (0, "not refuted")
    assert {check["outcome"] for check in whole["inside"][0]["conformance"]} == {"pass", "not observable"}
    page = (folder / "verification/index.html").read_text()
    assert "not refuted" in page and "not a trainer who lies" in page
    one_line(
        call(*asked(folder, mechanism=MECHANISM.replace("0.7", "0.71"))), "another training or mechanism"
    )
    record.write(made(noise_squares=made().noise_squares / 4), folder / "halved.npz")
    other = call(*asked(folder, observed=folder / "halved.npz", out=folder / "other"))
    assert other.code == 1 and "noise on" in other.out


def test_several_claims_are_a_table(folder: Path, call: Call) -> None:
    done = call(*asked(folder), "--claim", CLAIM.replace("eps=8", "eps=1"))
    assert done.code == 1, done
    told = [line.split()[2:6] for line in done.out.splitlines() if line.startswith("observed training")]
    assert told == [["8", "1e−5", "not", "refuted"], ["1", "1e−5", "refuted", told[1][3]]]
    assert "mechanism test: p = " in done.out


def test_the_page_in_chinese_stands_beside_the_english_one(folder: Path, call: Call) -> None:
    done = call(*asked(folder, lang="zh"))
    page = folder / "verification/index.zh.html"
    assert "mechanism test: p = " in done.out and "clips, by this test; 0.7 claimed" in done.out
    assert done.code == 0 and str(page) in done.out.replace("\n", "") and "（0 句）" in page.read_text()
    assert page.with_name("index.html").is_file()
    one_line(call(*asked(folder, lang="fr", out=folder / "another")), "--lang", "en or zh")


@pytest.mark.parametrize("kind", RECORDS)
def test_no_english_sentence_remains(kind: str) -> None:
    seen = made(**RECORDS[kind])
    for said in ([CLAIM], [CLAIM, CLAIM.replace("eps=8", "eps=1")]):
        page = render.render_observed(found(seen, *said))
        done = chinese.page(page)
        assert done.english == 0 and "not " not in chinese.plain(found(seen, *said).answers[0].reason).text


# ---- no good word where nothing could be seen


@pytest.mark.parametrize("kind", ["silent axes", "nobody drawn"])
def test_axes_that_show_no_canary_have_no_power(kind: str) -> None:
    answer, inside = found(made(**RECORDS[kind])).answers[0], found(made(**RECORDS[kind])).inside[0]
    assert answer.verdict == "no power" and inside.power_third == 0
    assert inside.conformance[-1].name == "canaries along their axes"


def test_a_correct_record_has_power() -> None:
    whole = found(made())
    assert whole.answers[0].verdict == "not refuted" and whole.inside[0].power_third > 0.9
    assert "not looked at" not in whole.answers[0].reason


def test_power_is_that_of_the_rate_that_was_seen() -> None:
    """A claimed rate above the real one makes noise seem easier to see than it is."""
    seen = found(made(rate=1 / 400)).inside[0]
    assert seen.conformance[1].outcome == "pass" and seen.power_third < 0.5


@pytest.mark.parametrize("there", [slice(0, None, 2), slice(100, None), slice(0, UNITS - 30)])
def test_a_split_is_no_breach(there: slice) -> None:
    """Half of the rows, those after the first hundred, those before the last thirty canaries."""
    with pytest.raises(UsageError, match="without a split"):
        found(made(there=there))


def test_a_sampler_with_weights_is_no_split() -> None:
    seen = made()
    assert conformance.rows_left_out(seen) is None
    generator, often = np.random.default_rng(0), UNITS // 4  # nine times as often as the rest
    draws = np.concatenate([generator.poisson(9, often), generator.poisson(1, UNITS - often)])
    weighted = made(row_draws=np.bincount(draws), drawn=np.full(STEPS, int(draws.sum()) / STEPS))
    assert conformance.rows_left_out(weighted) is None
    assert "draws of a unit" in outcome(weighted, "draws of a row")


def test_canaries_that_are_drawn_more_often_than_claimed_are_told() -> None:
    """Half of the other rows left out: what remains is drawn twice as often as all would be."""
    seen = made(rate=2 / 20, there=slice(ROWS // 2, None))
    assert "sampling rate: expected 0.05, seen 0.1" in str(outcome(seen, "sampling rate"))


def outcome(seen: Record, name: str) -> str:
    return next(c.detail for c in conformance.checks(seen, CLAIMED, claims.parse(CLAIM)) if c.name == name)


def test_steps_that_nobody_watched_are_told_in_the_reason() -> None:
    answer = found(made(**RECORDS["attached late"])).answers[0]
    assert answer.verdict == "not refuted"
    assert answer.reason.endswith("not looked at from inside: 20 of 80 steps")
    assert conformance.steps_missing(made(), replace(CLAIMED, steps=100)) == "40 of 100 steps"
    assert conformance.steps_missing(made(), CLAIMED) is None


# ---- one line


BAD: dict[str, dict[str, Any]] = {
    "NaN in the noise": {"noise_squares": np.array([np.nan, 1.0])},
    "NaN along an axis": {"observed": np.full((STEPS, AXES), np.nan, np.float32)},
    "infinite noise multiplier": {"noise_multiplier": np.full(STEPS, np.inf)},
    "negative counts": {"drawn": np.full(STEPS, -1)},
    "no step": {name: getattr(made(), name)[:0] for name in record._OF_STEPS},
    "a clip of 0": {"clip": np.zeros(STEPS)},
    "more canaries than rows": {"canaries": np.full(STEPS, 10**6)},
    "fewer draws than rows": {"row_draws": np.array([UNITS])},
    "texts": {"drawn": np.array(["x"] * STEPS)},
    "a step less": {"clip": np.ones(STEPS - 1)},
    "no weight": {"weights": (), "noise_squares": np.zeros(0), "noise_values": np.zeros(0, int)},
}


@pytest.mark.parametrize("kind", BAD)
def test_a_record_that_contradicts_itself_is_refused(kind: str, tmp_path: Path) -> None:
    record.write(made(**BAD[kind]), tmp_path / "seen.npz")
    with pytest.raises(UsageError, match=r"seen\.npz") as error:
        record.load(tmp_path / "seen.npz")
    assert "\n" not in str(error.value)


def test_verify_refuses_in_one_line(folder: Path, call: Call) -> None:
    keys.write(keys.draw(ROWS, AXES), folder / "another.json")
    one_line(call(*asked(folder, key=folder / "another.json")), "the key of another training")
    short, whole = folder / "short.npz", (folder / "seen.npz").read_bytes()
    for share in (0.3, 0.7, 0.99):
        short.write_bytes(whole[: int(len(whole) * share)])
        one_line(call(*asked(folder, observed=short)), "cut short")
    np.save(folder / "array.npy", np.zeros(3))
    one_line(call(*asked(folder, observed=folder / "array.npy")), "another file")
    record.write(made(rows=ROWS - 1), short)  # one row less than it counts
    one_line(call(*asked(folder, observed=short)), "counts that contradict")
    one_line(call(*asked(folder, observed=folder / "none.npz")), "no such file")
    one_line(call(*asked(folder, key=folder)), "a folder")
    one_line(call(*asked(folder, mechanism="sigma=1,rate=2,steps=3")), "--mechanism: rate")
    one_line(call(*asked(folder, mechanism="sigma=1,rate=1e-320,steps=3")), "--mechanism: rate")
    one_line(call(*asked(folder, mechanism="sigma=1,rate=0.1")), "no steps")
    one_line(call(*asked(folder, claim=CLAIM.replace("record", "patient"))), "record or pair, got patient")
    one_line(call(*asked(folder, claim=CLAIM.replace("1e-5", "0"))), "--claim: delta", "Gaussian noise")
    one_line(call(*asked(folder), "--adapter", str(folder)), "a record alone")
    edited = folder / "edited.json"
    edited.write_text((folder / "key.json").read_text().replace("true", "false", 1))
    one_line(call(*asked(folder, key=edited)), "an edited or broken key")
    assert not (folder / "verification").exists()
