"""`dpaudit.verify`: the page's own lines on a stranger's adapter, and what it refuses."""

import re
import shutil
from pathlib import Path

import pytest
from regenerate_docs import ROOT
from strangers import CLAIM

import dpaudit


def test_the_lines_of_the_docs_give_the_commands_verdict(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.S) if "dpaudit.verify(" in text)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world / "adapter", "adapter")
    shutil.copy(world / "key.json", "audit-key.json")
    shutil.copy(world / "planted.jsonl", "planted.jsonl")
    names: dict[str, dpaudit.Verification] = {}
    exec(block.replace("eps=3", "eps=0.5"), names)
    found = names["found"]
    (answer,) = found.answers
    assert answer.verdict == "refuted" and 0.5 < answer.bound.epsilon_lower <= answer.bound.ceiling
    out, err = capfd.readouterr()
    assert out == f"refuted {answer.reason}\n" and err == ""
    assert Path("verification/index.html").is_file()
    with pytest.raises(dpaudit.UsageError, match="the key whose commitment was noted down, got another key"):
        dpaudit.verify(adapter="adapter", key="audit-key.json", claims=[CLAIM], commitment="0" * 64)
    same = dpaudit.Claim(0.5, 1e-5, "record", "add_or_remove")
    again = dpaudit.verify(
        adapter="adapter",
        key="audit-key.json",
        data="planted.jsonl",
        claims=[same],
        commitment=found.commitment,
    )
    assert again.answers == found.answers and again.noted_before == "the same"


def test_a_wrong_call_is_refused_before_anything_is_read(world: Path, tmp_path: Path) -> None:
    key, out = world / "key.json", tmp_path / "out"
    with pytest.raises(dpaudit.UsageError, match="expected a list with a claim, got no claim"):
        dpaudit.verify(adapter=world / "adapter", key=key, claims=[], out=out)
    with pytest.raises(dpaudit.UsageError, match="got one claim that stands alone"):
        dpaudit.verify(adapter=world / "adapter", key=key, claims=CLAIM, out=out)
    with pytest.raises(dpaudit.UsageError, match="expected control or train_control, got both"):
        dpaudit.verify(
            adapter=world / "adapter", key=key, claims=[CLAIM], out=out, control="x", train_control=True
        )
    with pytest.raises(dpaudit.UsageError, match="got no model"):
        dpaudit.verify(key=key, claims=[CLAIM], out=out)
    assert not out.exists()
