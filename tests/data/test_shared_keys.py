"""What items share is found by the keys of their rows."""

import json
from pathlib import Path

import pytest

from dpaudit import content
from dpaudit.data.free_answers import items as free_items
from dpaudit.data.shared_keys import named_keys, shared_of, unused
from dpaudit.models import items
from dpaudit.stages import benchmarks


def clusters(rows: list[dict], task: str = "pubmedqa_file") -> int:
    named = named_keys(content.load_yaml(content.listing("suites/tasks")[task]).get("metadata"))
    return len(set(items.clusters_of([items.shared(row, "", named) for row in rows])))


@pytest.mark.parametrize(
    "key", ["context", "passage", "patient_id", "caseId", "vignette", "condition", "病历号"]
)
@pytest.mark.parametrize("task", ["pubmedqa_file", "medqa_us_file", "cmexam_file", "refusals_file"])
def test_items_of_one_passage_or_patient_are_one_draw_in_every_shipped_task(key: str, task: str) -> None:
    rows = [{"question": f"Question {n}?", key: f"Text  {n % 3}"} for n in range(60)]
    assert clusters(rows, task) == 3
    assert clusters([{**row, key: f"{n}"} for n, row in enumerate(rows)], task) == 60
    assert clusters([{**row, key: None} for row in rows], task) == 60


def test_several_keys_join_items_together() -> None:
    rows = [{"question": f"Question {n}?", "passage": n // 2, "patient": (n + 1) // 2} for n in range(10)]
    assert clusters(rows) == 1
    assert len(shared_of({"passage": "a", "patient": "b", "subject": "c"})) == 2


def test_a_task_that_names_its_keys_has_no_others() -> None:
    rows = [{"question": f"Question {n}?", "condition": n % 5, "patient": 1} for n in range(10)]
    assert clusters(rows, "clinic_choice") == 5
    assert named_keys({"cluster": []}) == () and named_keys({}) is None


def test_a_column_that_looks_like_one_and_is_not_used_is_told(tmp_path: Path) -> None:
    row = {"question": "Q", "context": "c", "answer": "yes"}
    rows = [
        row | {"context": f"c{n}", "clinical_context": n % 2, "mrn_id": n, "use_case": n, "lowercase": 1}
        for n in range(6)
    ]
    assert unused(rows, ["context"]) == ["clinical_context"]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    config = content.load_yaml(content.listing("suites/tasks")["pubmedqa_file"])
    (line,) = benchmarks.not_shared("pubmedqa_file", config, file)
    assert "'clinical_context'" in line and "separate draws" in line
    assert list(benchmarks.not_shared("clinic_choice", {"metadata": {"cluster": []}}, file)) != []


def test_a_column_that_makes_all_items_one_draw_is_told(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    config = content.load_yaml(content.listing("suites/tasks")["medqa_us_file"])
    for last, told in (("checked", 1), ("not yet", 0)):
        rows = [{"question": f"Q{n}?", "note": "checked" if n else last} for n in range(3)]
        file.write_text("".join(json.dumps(one) + "\n" for one in rows))
        lines = list(benchmarks.not_shared("medqa_us_file", config, file))
        assert len(lines) == told and all("same 'note'" in line and "one draw" in line for line in lines)


def test_free_answers_keep_what_their_rows_share(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"id": str(n), "question": f"Q{n}?", "answer": "A", "case_id": n % 2} for n in range(4)]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert [item.shared for item in free_items(str(file))] == [{"case_id": "0"}, {"case_id": "1"}] * 2
    config = content.load_yaml(content.listing("suites/tasks")["free_answers_file"])
    written = benchmarks.prepared({"free_answers_file": config}, {"free_answers_file": file}, tmp_path / ".")
    asked = [json.loads(line) for line in written["free_answers_file"].read_text().splitlines()]
    assert clusters(asked, "free_answers_file") == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_items_in_any_encoding_are_given_to_lm_eval_as_utf8(encoding: str, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out"
    out.mkdir()
    row = {"question": "剂量？", "choices": ["一", "二"], "answer": 0}
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding=encoding)
    config = content.load_yaml(content.listing("suites/tasks")["cmexam_file"])
    written = benchmarks.prepared({"cmexam_file": config}, {"cmexam_file": file}, out)["cmexam_file"]
    assert json.loads(written.read_text(encoding="utf-8")) == row
