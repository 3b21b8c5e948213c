"""`report` beside its page, as it is typed: formats, verify, diff."""

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import fabricate
import pytest
import yaml
from typed import Call

FORMATS = ("md", "csv", "junit", "json")


def made(*stages: str) -> Path:
    """A run in the present folder, its page written."""
    run_dir, _ = fabricate.run(Path("runs"), stages or fabricate.ALL)
    return run_dir.path


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_is_one_result_and_nothing_is_written(form: str, call: Call) -> None:
    run = made()
    done = call("report", form, run.name)
    assert done.code == 0 and done.err == ""
    if form == "json":
        assert json.loads(done.out)["format"].startswith("report/")
    elif form == "csv":
        assert len(list(csv.DictReader(io.StringIO(done.out)))) > 1000
    elif form == "junit":
        assert len(ElementTree.fromstring(done.out.encode())) == 4
    else:
        assert done.out.startswith("dpaudit · privacy audit") and "\n## " in done.out
    assert not (run / "report").exists()
    assert call("report", form).out == done.out  # the run used last
    file = call("report", form, "--out", "there/out.txt")
    assert file.code == 0 and file.out == "" and "written: there/out.txt" in file.err
    assert Path("there/out.txt").read_text(encoding="utf-8").strip() == done.out.strip()
    assert [path.name for path in Path("there").iterdir()] == ["out.txt"]


def test_the_public_edition_of_every_format_says_what_it_is(call: Call) -> None:
    run = made()
    for form in FORMATS:
        done = call("report", form, "--public")
        assert done.code == 0 and done.err == ""
        assert "Public edition" in done.out or form == "csv"
        assert "bits_per_byte" not in done.out and len(done.out) < len(call("report", form).out)
    done = call("report", "--public")
    assert done.code == 0 and "must not be released" in done.out and "Public edition" in done.out
    page = (run / "report/public.html").read_text(encoding="utf-8")
    assert page == (call("report", "html", "--public"), (run / "report/public.html").read_text("utf-8"))[1]
    assert [file.name for file in sorted((run / "report").glob("*.html"))] == ["public.html"]
    schema = json.loads(call("report", "json", "--public", "--schema").out)
    assert schema["title"] == "public-report/1"


def test_a_card_tells_the_verdict_and_no_figure_of_the_ledger(call: Call) -> None:
    run = made()
    done = call("report", "card", "sft-eps1", "--run", run.name)
    assert done.code == 0 and done.err == ""
    head = yaml.safe_load(done.out.split("---\n")[1])["privacy"]
    assert head["epsilon"] == 1 and head["audit"]["verdict"] == "not refuted"
    assert f"The claim is **not refuted** (run `{run.name}`" in done.out and "from outside" in done.out
    assert "No medical advice" in done.out and "in the full ledger alone" in done.out
    ledger = json.loads((run / "train/sft-eps1/privacy.json").read_text(encoding="utf-8"))
    acted = [ledger["mechanism"][name] for name in ("noise_multiplier", "sampling_rate", "steps")]
    for figure in (*acted, ledger["population"]):
        assert not re.search(rf"(?<![\d.]){re.escape(str(figure))}(?!\d)", done.out), figure
    for words, told in {
        ("card",): "expected the name of an arm, got none, of sft-eps8, sft-eps4",
        ("card", "sft-eps3"): "expected one of sft-inf, sft-eps8",
    }.items():
        refused = call("report", *words)
        assert refused.code == 2 and refused.err.count("\n") == 1 and told in refused.err, refused.err


def test_the_schema_needs_no_run(call: Call) -> None:
    done = call("report", "json", "--schema")
    assert done.code == 0 and json.loads(done.out)["$schema"].startswith("https://json-schema.org/")


def test_mistakes_are_one_line(call: Call) -> None:
    run = made("train")
    Path("folder").mkdir()
    for words, told in {
        ("csv", "nobody"): "expected one of",
        ("csv", run.name, "--run", "other"): "expected one run, got",
        ("md", "--out", "folder"): "--out folder: expected a file, got a folder",
        ("verify", run.name): "report/report.json: expected a finished output, got no such file",
        ("verify", run.name, "--commitment", "x"): "report.json: expected a finished output",
        ("diff", run.name, "nobody"): "expected one of",
    }.items():
        done = call("report", *words)
        assert done.code == 2 and done.out == "" and done.err.count("\n") == 1, (words, done)
        assert told in done.err, done.err
    assert list(Path("folder").iterdir()) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_that_takes_no_file_is_one_line(call: Call) -> None:
    made("train")
    Path("closed").mkdir(mode=0o500)
    done = call("report", "csv", "--out", "closed/out.csv")
    assert done.code == 2 and done.err.count("\n") == 1


def test_verify_names_what_differs_and_ends_with_1(call: Call) -> None:
    run = made("train")
    assert call("report", "html").code == 0
    refused = call("report", "verify", "--json")  # made-up ledgers, which no accountant gives
    found = json.loads(refused.out)
    assert refused.code == 1 and found["verified"] is False
    there = found["difference"]
    assert (there["file"], there["key"]) == ("train/sft-eps8/privacy.json", "/epsilon_pld")
    assert there["in_report"] == "/arms/1/privacy/epsilon_pld"
    told = call("report", "verify", run.name)
    assert told.code == 1 and "verified: no" in told.out and "got: 7.9968" in told.out
    assert "in report: /arms/1/privacy/epsilon_pld" in told.out


def test_diff_shows_settings_and_what_differs(call: Call) -> None:
    first = made()
    other, _ = fabricate.run(Path("other"), plan=fabricate.plan_named("second"))
    second = Path("runs/second")
    shutil.copytree(other.path, second)
    same = call("report", "diff", first.name, first.name)
    assert same.code == 0 and "settings: the same" in same.out and same.err == ""
    done = call("report", "diff", first.name, "second")
    assert done.code == 0, done.err
    assert "suite.name" in done.out and "RUN2: second" in done.out
    told = json.loads(call("report", "diff", first.name, "second", "--json").out)
    assert told["runs"] == [first.name, "second"]
    assert [row["setting"] for row in told["settings"]] == ["suite.name"]
    apart = {row["what"] for row in told["figures"] if row["said"] != "the same"}
    assert apart == {"accuracy"}  # of items that a made-up run does not name


# ---- in Chinese


def test_the_page_in_chinese_stands_beside_the_english_one(call: Call) -> None:
    run = made()
    done = call("report", "--lang", "zh")
    assert done.code == 0 and "不得发布" in done.out and "report/index.zh.html" in done.out
    assert "1 句没有译文，仍为英文" in done.err  # the description of this suite
    page = (run / "report/index.zh.html").read_text(encoding="utf-8")
    assert '<html lang="zh-CN">' in page and "1 句没有译文，仍为英文" in page
    assert '<html lang="en">' in (run / "report/index.html").read_text(encoding="utf-8")
    public = call("report", "html", "--public", "--lang", "zh")
    assert public.code == 0 and "公开版" in public.out and "（0 句）" in public.err
    assert (run / "report/public.zh.html").is_file()
    card = json.loads(call("report", "--lang", "zh", "--json").out)["release"]
    assert card[0]["word"] == "must not be released"
    assert "## 可以发布吗？" in call("report", "md", "--lang", "zh").out


@pytest.mark.parametrize("words", [("report",), ("report", "html"), ("report", "md")])
def test_another_language_is_one_line(words: tuple[str, ...], call: Call) -> None:
    made()
    refused = call(*words, "--lang", "fr")
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert "--lang: expected en or zh, got fr" in refused.err
