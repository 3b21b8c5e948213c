"""Rows of the family `natural` read like the file's own and hold no word that would tell whose row it was."""

import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_plant import skeleton, written

from dpaudit.data import lexicon, near_duplicates
from dpaudit.data.common_words import COMMON_WORDS, FUNCTION_WORDS
from dpaudit.data.near_duplicates import UnitTexts
from dpaudit.data.reading import read_records
from dpaudit.errors import UsageError
from dpaudit.planting import audit_key, natural, plant
from dpaudit.planting.invented import invented
from dpaudit.planting.rewriting import Rewriting, Source, is_name
from dpaudit.planting.vocabulary import COPIED, GIVEN, LEAST, NAMES, Vocabulary, vocabulary_of

ROWS = 240
CONTENT = sorted(word for word in COMMON_WORDS - FUNCTION_WORDS if len(word) > 3)
random.Random(0).shuffle(CONTENT)
CHINESE = "头疼发热咳嗽胸闷乏力失眠恶心腹痛饮食清淡注意休息按时服药定期复查控制血压避免劳累适当运动保持心情"


def said(i: int, count: int) -> str:
    """Words as texts have them: some often, many seldom."""
    draw = random.Random(i)
    words = [CONTENT[min(int(draw.paretovariate(0.7)), 1500)] for _ in range(count)]
    return " ".join(f"{word} {draw.choice(('the', 'of', 'and', 'with'))}" for word in words)


def rare(i: int) -> str:
    """A word of row `i` alone."""
    return "".join("bdfgklmnpr"[int(digit)] + "uo"[int(digit) % 2] for digit in f"{i:05d}")


def dialogue(i: int) -> dict[str, Any]:
    asked = f"What helps {said(i, 3)} {rare(i)}?"
    answer = f"Mr. Kowalczyk{rare(i)} and Mary O. took {4000000 + i} of {rare(i)}, {said(1000 + i, 9)} day."
    return {
        "id": f"r{1000 + 7 * i}",
        "messages": [
            {"role": "system", "content": "You are a nurse of the ward."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ],
    }


def pair(i: int) -> dict[str, Any]:
    turns = dialogue(i)["messages"]
    return {"prompt": turns[1]["content"], "chosen": turns[2]["content"], "rejected": f"{said(i + 5000, 8)}."}


def plain(i: int) -> dict[str, Any]:
    source = ("GARD", "CDC", "NIDDK")[i % 3]
    return {"text": dialogue(i)["messages"][2]["content"], "source": source, "id": f"qa/{source}/{i:05d}/1"}


def instruction(i: int) -> dict[str, Any]:
    turns = dialogue(i)["messages"]
    told = "Answer as a nurse of the ward."
    return {"instruction": told, "input": turns[1]["content"], "output": turns[2]["content"]}


def of_patient(i: int) -> dict[str, Any]:
    return {"patient_id": f"P{1000 + i // 2}", **dialogue(i)}


def chinese(i: int) -> dict[str, Any]:
    draw = random.Random(i)
    often = [CHINESE[2 * at : 2 * at + 2] for at in draw.choices(range(len(CHINESE) // 2), k=9)]
    parts = often + ["".join(draw.choices(CHINESE, k=2)) for _ in range(5)]
    draw.shuffle(parts)
    only = "".join(chr(0x4E00 + (977 * i + 101 * k) % 20000) for k in range(3))  # of this row alone
    return {
        "prompt": f"{parts[0]}{only}怎么办？",
        "completion": f"{''.join(parts[1:8])}{only}，{''.join(parts[8:])}。",
    }


SHAPES: dict[str, tuple[Any, str]] = {
    "messages": (dialogue, "record"),
    "pair": (pair, "pair"),
    "text": (plain, "record"),
    "instruction": (instruction, "record"),
    "patient": (of_patient, "patient"),
    "chinese": (chinese, "record"),
}
Made = tuple[list[str], list[str], audit_key.AuditKey]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """The lines before and after planting, and the key, of every shape."""
    made = {}
    for name, (row, unit) in SHAPES.items():
        folder = tmp_path_factory.mktemp(name)
        source = written(folder / "train.jsonl", [row(i) for i in range(ROWS)])
        plant.plant(source, folder / "o.jsonl", folder / "k.json", 100, unit, "natural")
        lines = (folder / "o.jsonl").read_text().splitlines()
        made[name] = (source.read_text().splitlines(), lines, audit_key.load(folder / "k.json"))
        assert len(list(read_records(str(folder / "o.jsonl")))) == len(lines)
    return made


@pytest.mark.parametrize("shape", SHAPES)
def test_planted_rows_are_like_the_others_and_the_key_finds_them(shape: str, worlds: dict[str, Made]) -> None:
    before, after, key = worlds[shape]
    new = [line for line in after if line not in before]
    assert [line for line in after if line in before] == before and len(new) == sum(key.coins)
    known = {str(skeleton(json.loads(line))) for line in before}
    assert {str(skeleton(json.loads(line))) for line in new} <= known
    for canary, coin in zip(key.canaries, key.coins, strict=True):
        spelled = json.dumps(canary.secret)[1:-1]
        assert sum(spelled in line for line in after) == coin
        assert canary.rejected != canary.secret


@pytest.mark.parametrize("shape", SHAPES)
def test_secrets_are_distinct_and_have_their_bits(shape: str, worlds: dict[str, Made]) -> None:
    key = worlds[shape][2]
    assert len({canary.secret for canary in key.canaries}) == 100
    assert natural.BITS_LEAST <= key.bits < 200 and f"at least {LEAST} units" in key.taken


@pytest.mark.parametrize("shape", SHAPES)
def test_no_word_of_few_units_is_in_a_planted_row(shape: str, worlds: dict[str, Made]) -> None:
    """A word of the data that is neither frequent nor public stands in none; a rare number in none either."""
    before, _, key = worlds[shape]
    make, _ = SHAPES[shape]
    kept = [record_text(canary) for canary in key.canaries]
    assert len(before) == ROWS
    if shape == "chinese":
        alone = {make(i)["prompt"][2:5] for i in range(ROWS)}
        assert not any(word in text for word in alone for text in kept)
        return
    alone = {rare(i) for i in range(ROWS)} | {str(4000000 + i) for i in range(ROWS)}
    assert not any(alone & set(re.findall(r"\w+", text.lower())) for text in kept)
    assert not any("kowalczyk" in text.lower() for text in kept)


def record_text(canary: audit_key.Planted) -> str:
    return canary.record.whole_text


def test_a_name_is_one_of_the_public_names(worlds: dict[str, Made]) -> None:
    _, _, key = worlds["messages"]
    names = [re.search(r"Mr\. (\w+) and (\w+)", canary.record.turns[-1].text) for canary in key.canaries]
    found = [match.groups() for match in names if match]
    assert len(found) == 100
    assert all(surname in lexicon.COMMON_SURNAMES and given in GIVEN for surname, given in found)
    assert len({surname for surname, _ in found}) > 20


def test_what_all_share_stays(worlds: dict[str, Made]) -> None:
    assert {c.record.turns[0].text for c in worlds["messages"][2].canaries} == {
        "You are a nurse of the ward."
    }
    asked = {c.record.turns[0].text.partition("\n")[0] for c in worlds["instruction"][2].canaries}
    assert asked == {"Answer as a nurse of the ward."}


def test_an_id_names_what_the_other_columns_name(worlds: dict[str, Made]) -> None:
    """Else one line would find planted rows by columns that no text classifier reads."""
    before, after, _ = worlds["text"]
    planted = [json.loads(line) for line in set(after) - set(before)]
    assert len(planted) > 20
    assert all(row["id"].split("/")[1] == row["source"] for row in planted)


def everyday(i: int) -> dict[str, Any]:
    names = random.Random(i).choice(GIVEN), random.Random(i).choice(lexicon.COMMON_SURNAMES)
    return {
        "prompt": f"What helps {said(i, 4)} it?",
        "completion": f"{' '.join(names)}: {said(1000 + i, 12)} it.",
    }


def everyday_chinese(i: int) -> dict[str, Any]:
    row = chinese(i)
    only = row["prompt"][2:5]
    return {key: text.replace(only, "") for key, text in row.items()}


@pytest.mark.parametrize("make", [everyday, everyday_chinese])
def test_they_are_hard_to_tell_from_the_others(make: Any, tmp_path: Path) -> None:
    """Beside the family `invented`, which everybody finds. In a smaller file few words are common enough. Of
    100 canaries the AUC has a standard error of .06 about a mean of .73: the limit lies three of them above.
    """
    source = written(tmp_path / "train.jsonl", [make(i) for i in range(600)])
    auc = {}
    for family in ("natural", "invented"):
        key = tmp_path / f"{family}.json"
        plant.plant(source, tmp_path / f"{family}.jsonl", key, 100, "record", family)
        seen = audit_key.load(key).visibility
        assert seen is not None
        auc[family] = seen.auc
    assert auc["natural"] < 0.91 < 0.99 < auc["invented"]


@pytest.mark.parametrize("shape", ["messages", "pair", "text", "chinese"])
def test_no_canary_is_a_near_duplicate_of_a_row(shape: str, worlds: dict[str, Made], tmp_path: Path) -> None:
    """Else whoever removes near-duplicates removes canaries."""
    before, _, key = worlds[shape]
    source = tmp_path / "train.jsonl"
    source.write_text("\n".join(before))
    texts = [record.whole_text for _, record in read_records(str(source))]
    drawn = [UnitTexts(f"c{n}", (record_text(c),), False) for n, c in enumerate(key.canaries)]
    corpus = [UnitTexts(f"r{n}", (text,), False) for n, text in enumerate(texts)]
    assert not near_duplicates.across(drawn, corpus).alike


def test_rows_without_room_are_refused(tmp_path: Path) -> None:
    short = [{"prompt": f"{said(i, 4)}?", "completion": "Yes."} for i in range(ROWS)]
    assert "room for 100 secrets of 20 bits" in refused(tmp_path, short)
    assert "at least 100 units" in refused(tmp_path, [dialogue(i) for i in range(99)])
    patients = [dialogue(i) | {"patient_id": f"P{i // 3}"} for i in range(ROWS)]
    assert "at least 100 units" in refused(tmp_path, patients)


def refused(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    source = written(tmp_path / "train.jsonl", rows)
    with pytest.raises(UsageError) as caught:
        plant.plant(source, tmp_path / "o.jsonl", tmp_path / "k.json", 100, "record", "natural")
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]
    assert "\n" not in str(caught.value) and "--family" in str(caught.value)
    return str(caught.value)


# ---- words


def test_a_word_counts_once_a_unit() -> None:
    often = vocabulary_of([["clotrimazole clotrimazole", "clotrimazole"]] * (LEAST - 1))
    assert not often.is_allowed("clotrimazole")
    enough = vocabulary_of([["clotrimazole"]] * LEAST)
    assert enough.is_allowed("clotrimazole") and not enough.is_allowed("Clotrimazole")


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("seen by Dr. Brown today", "Brown", True),
        ("seen by Dr Fabulous today", "Fabulous", True),
        ("Mark Hill was seen", "Mark", True),
        ("Mark Hill was seen", "Hill", True),
        ("John is here", "John", True),
        ("Young people came", "Young", False),
        ("Brown spots", "Brown", False),
        ("Mr. The", "The", False),
        ("a young man", "young", False),
        ("MRI John", "MRI", False),
    ],
)
def test_where_a_name_stands(text: str, name: str, expected: bool) -> None:
    words = list(vocabulary_of([[text]]).words_of(text))
    assert is_name(words, [word.text for word in words].index(name)) == expected
    assert "John" in NAMES


def test_unknown_characters_between_known_pairs_are_one_word() -> None:
    known = Vocabulary(100, {"发热": 30, "咳嗽": 30, "发": 30, "热": 30}, frozenset(), frozenset())
    assert [w.text for w in known.words_of("发热王小明咳嗽x1")] == ["发热", "王小明", "咳嗽", "x", "1"]
    assert not known.is_allowed("王小明")


# ---- copies


def test_no_long_piece_of_one_row_stands_in_a_planted_row() -> None:
    """Words that many units use stay, but not many of them one after another; what many units share does."""
    words = random.Random(1).sample(CONTENT, 60)
    heading = " ".join(words[:20])
    lone = " ".join(words[20:])  # an order of words of one row; each word is used often
    others = [f"{heading} {word}" for word in words[20:] for _ in range(LEAST)]
    vocabulary = vocabulary_of([[text] for text in (*others, f"{heading} {lone}")])
    source = Source(vocabulary, invented(vocabulary, 100, random.Random(2)), random.Random(3))
    rewriting = Rewriting(source, frozenset(words))
    said = rewriting.text(f"{heading} {lone}", 0.0).split()
    assert said[:20] == words[:20]
    changed = [at for at, word in enumerate(said) if word != words[at]]
    assert changed and all(stop - start - 1 <= COPIED for start, stop in pairwise([19, *changed, 60]))
    assert rewriting.longest == COPIED
