"""Answers that are kept line by line: what a kill leaves is read as what it is."""

import json
from pathlib import Path

import pytest

from dpaudit.storage.answer_log import NEW, AnswerLog

ASKED = [["generate_until", "Which dose?", {"until": ["."]}], ["loglikelihood", "a", "b"]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    log = AnswerLog(tmp_path / "log.jsonl", b"key", ["weights"])
    for question, answer in zip(ASKED, ["500 mg", [-1.25, True]], strict=True):
        log.keep(question, answer)
    return tmp_path / "log.jsonl"


def test_answers_are_read_back_and_each_is_given_once(file: Path) -> None:
    log = AnswerLog(file, b"key", ["weights"])
    log.keep(ASKED[0], "another draw")
    again = AnswerLog(file, b"key", ["weights"])
    asked = [*ASKED, ASKED[0], ASKED[0]]
    assert again.answers(asked) == ["500 mg", [-1.25, True], "another draw", NEW]


def test_the_file_is_private_and_quotes_no_question(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Which dose" not in file.read_text()


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_half_a_line_is_no_answer_and_spoils_none_after_it(file: Path, cut: int) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    log = AnswerLog(file, b"key", ["weights"])
    assert log.answers(ASKED) == ["500 mg", NEW]
    assert file.read_bytes() == whole[:-cut]  # who only reads leaves alone what another may be writing
    log.keep(ASKED[1], [-1.25, True])
    assert file.read_bytes() == whole


def test_an_altered_line_is_no_answer(file: Path) -> None:
    file.write_text(file.read_text().replace("500 mg", "900 mg") + json.dumps([1]) + "\n{}\n")
    assert AnswerLog(file, b"key", ["weights"]).answers(ASKED) == [NEW, [-1.25, True]]


@pytest.mark.parametrize(("key", "of"), [(b"other", ["weights"]), (b"key", ["other weights"])])
def test_answers_of_other_weights_or_under_another_key_are_none(
    file: Path, key: bytes, of: list[str]
) -> None:
    assert AnswerLog(file, key, of).answers(ASKED) == [NEW, NEW]
