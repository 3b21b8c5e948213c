"""A suite drafted from a data file: what was found, what is proposed, and a file that every command takes."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typed import Call, Outcome, dialogue, last, one_line

from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.evidence import planned
from dpaudit.evidence.family import first_level
from dpaudit.evidence.release import SECRETS
from dpaudit.pipeline import drafting, suite_file, survey
from dpaudit.pipeline.drafting import Wanted
from dpaudit.pipeline.survey import Measured, Survey
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.suite import loading

SHARED = Path(__file__).parents[2] / "../shared/data"
SECRET = "zinnia quartz"
ROWS = 60


def turns(number: int, answer: str = "Rest for two days.") -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"My head hurts, day {number}, {SECRET}. What shall I do?"},
        {"role": "assistant", "content": answer},
    ]


def written(rows: Sequence[dict[str, Any]], name: str = "own.jsonl") -> Path:
    Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return Path(name)


def own(**more: Callable[[int], Any]) -> Path:
    return written(
        [{"messages": turns(n), **{key: made(n) for key, made in more.items()}} for n in range(ROWS)]
    )


def seen(lengths: Sequence[int], begins: int = 10, **more: Any) -> Survey:
    """What a survey of records of so many tokens finds."""
    measured = tuple(Measured(tokens, 5, begins, Record("r", ())) for tokens in lengths)
    counts = {"records": len(lengths), "patients": 0, "named": 0, "patient_column": None, **more}
    script, languages = "Latin script", counts.pop("languages", None)
    return Survey("text", counts.pop("unread", ()), script, languages, **counts, counted_by="builtin:tiny",
        window=512, measured=measured)  # fmt: skip


def told(out: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in out.splitlines())


# ---- what is proposed


def test_a_longest_record_is_whole_where_the_proposed_length_allows() -> None:
    for longest, proposed in ((40, 64), (100, 128), (256, 256), (400, 256)):
        made = drafting.draft(Wanted("d.jsonl"), seen([longest] * 100))
        assert made.max_length == proposed
        assert any("lose their end" in line for line in drafting.warnings(made)) == (longest > proposed)


def test_answers_that_begin_late_get_a_longer_length() -> None:
    assert drafting.draft(Wanted("d.jsonl"), seen([400] * 100, begins=300)).max_length == 416


@pytest.mark.parametrize(("cut", "warned"), [(5, False), (6, True)])
def test_more_than_a_twentieth_cut_is_warned_of(cut: int, warned: bool) -> None:
    made = drafting.draft(Wanted("d.jsonl", max_length=100), seen([101] * cut + [100] * (100 - cut)))
    found = [line for line in drafting.warnings(made) if "over 100 tokens" in line]
    assert bool(found) == warned and (not warned or f"{cut}.0%" in found[0])


@pytest.mark.parametrize(("records", "warned"), [(300, True), (1000, False), (3000, False)])
def test_canaries_above_a_fifth_are_warned_of(records: int, warned: bool) -> None:
    made = drafting.draft(Wanted("d.jsonl"), seen([50] * records))
    assert any("canaries are" in line for line in drafting.warnings(made)) == warned
    assert (made.sizes.canary_share > 0.2) == warned


def test_the_unit_is_the_patient_where_every_row_names_one() -> None:
    every = seen([50] * 100, patients=40, named=100, patient_column="patient_id")
    assert drafting.draft(Wanted("d.jsonl"), every).unit == "patient"
    assert not any("patients" in line for line in drafting.warnings(drafting.draft(Wanted("d"), every)))
    some = seen([50] * 100, patients=40, named=99, patient_column="patient_id")
    made = drafting.draft(Wanted("d.jsonl"), some)
    assert made.unit == "record" and any("1 records name nobody" in line for line in drafting.warnings(made))
    with pytest.raises(UsageError, match="no patient on 1 of 100 records"):
        drafting.draft(Wanted("d.jsonl", unit="patient"), some)
    chosen = drafting.draft(Wanted("d.jsonl", unit="record"), every)
    assert any("the data name 40 patients" in line for line in drafting.warnings(chosen))


def test_a_column_that_may_name_people_and_is_not_read_is_told() -> None:
    made = drafting.draft(Wanted("d.jsonl"), seen([50] * 100, unread=("note", "subject_id")))
    assert any("column subject_id" in line for line in drafting.warnings(made))
    made = drafting.draft(Wanted("d.jsonl"), seen([50] * 100, unread=("note",)))
    assert not any("column" in line for line in drafting.warnings(made))


def test_what_was_computed_from_the_data_is_marked_and_may_be_declared() -> None:
    records = seen([50] * 100)

    def marked(wanted: Wanted) -> set[str]:
        return {one.key for one in drafting.draft(wanted, records).settings if one.instead}

    assert {"model.max_length", "training.population", "training.private.batch", "candidates.gradient",
        "candidates.canaries", "candidates.records", "data.heldout", "training.nonprivate.steps",
        "candidates.extraction", "grid.epsilons"} == marked(Wanted("d"))  # fmt: skip
    assert marked(Wanted("d", population=200)) == {"model.max_length"}
    assert marked(Wanted("d", max_length=64, population=200)) == set()
    records = seen([50] * 100, languages="English")
    assert "data.languages" in marked(Wanted("d"))
    assert marked(Wanted("d", max_length=64, population=200, languages="English")) == set()
    assert "training.nonprivate.steps" in marked(Wanted("d", base="some/model"))


def test_no_number_follows_the_data_once_it_is_declared() -> None:
    """Two files that differ in size and lengths give the same suite."""
    wanted = Wanted("d.jsonl", unit="record", max_length=64, population=1000)
    texts = {suite_file.text_of(drafting.draft(wanted, seen([n] * n)), ["dpaudit"]) for n in (50, 400)}
    assert len(texts) == 1 and suite_file.PRIVATE not in texts.pop()


@pytest.mark.parametrize(("records", "proposed"), [(60, 2), (1900, 2), (3000, 3)])
def test_the_larger_claim_is_one_that_the_canaries_can_test(records: int, proposed: int) -> None:
    made = drafting.draft(Wanted("d.jsonl"), seen([50] * records))
    settings = {one.key: one for one in made.settings}
    assert settings["grid.epsilons"].value == [proposed, 1]
    for epsilon in (3, 2):
        claim, level = Claim(epsilon, made.sizes.delta, "record", "add_or_remove"), first_level(2)
        power = planned.power_at_most(made.sizes.canaries, recipe.load("calibrated"), claim, level)
        assert (power >= 0.8) == (epsilon <= proposed)
    assert ("could not test a claim of 3" in settings["grid.epsilons"].why) == (proposed < 3)


def test_where_a_release_can_be_established_enough_secrets_are_asked_back() -> None:
    for records, enough in ((60, False), (499, False), (700, True)):
        made = drafting.draft(Wanted("d.jsonl"), seen([50] * records))
        assert (made.sizes.extraction // 2 >= SECRETS) == enough


@pytest.mark.parametrize(("records", "steps"), [(10, 800), (60, 800), (250, 1500), (3000, 2400)])
def test_few_records_are_learned_in_few_steps(records: int, steps: int) -> None:
    made = drafting.draft(Wanted("d.jsonl"), seen([50] * records))
    settings = {one.key: one.value for one in made.settings}
    assert (settings["training.nonprivate.batch"], settings["training.nonprivate.steps"]) == (8, steps)


def test_sizes_fit_each_other_at_any_count(tmp_path: Path) -> None:
    for count in (1, 2, 7, 60, 500, 2500, 200_000):
        for unit in ("record", "patient"):
            found = seen([50] * min(count, 100), patients=count, named=count, patient_column="patient")
            object.__setattr__(found, "records", count)
            made = drafting.draft(Wanted("d.jsonl", unit=unit), found)
            out = tmp_path / f"{count}-{unit}.yaml"
            suite_file.write(made, out, ["dpaudit run x.yaml"])
            suite = loading.load(str(out))
            left = count - suite.data.heldout
            assert suite.candidates.records <= left // 2
            assert suite.training.private.batch <= made.sizes.expected
            assert suite.training.delta * made.sizes.population <= 1
            assert suite.training.population is None


@pytest.mark.parametrize(
    "name",
    ["own data (1).jsonl", "données.csv", "null", "a: b #c.jsonl", 'q"uote.csv', "line\nend.csv", "yes"],
)
def test_any_file_name_is_read_back(name: str, tmp_path: Path) -> None:
    suite_file.write(drafting.draft(Wanted(name), seen([50] * 100)), tmp_path / "s.yaml", ["dpaudit"])
    assert loading.load(str(tmp_path / "s.yaml")).data.source == name


# ---- the command


def test_a_draft_is_told_and_loads(call: Call, toy_model_dir: Path) -> None:
    own(patient_id=lambda n: f"p{n % 30}", hospital=lambda n: "north")
    done = call("init", "own.jsonl", "--model", str(toy_model_dir))
    assert done.code == 0, done.err
    assert (
        len(done.out.splitlines()) <= 10
        and SECRET not in done.out + done.err + Path("suite.yaml").read_text()
    )
    lines = done.out.splitlines()
    assert lines[1] == (
        "data: 60 records (conversations or messages), 30 patients named by patient_id; Latin script, "
        "English; not read: hospital"
    )
    assert lines[3].endswith("of 3 records (--show-examples prints them)")
    assert lines[-2:] == ["next: dpaudit plan suite.yaml", "next: dpaudit run suite.yaml"]
    suite = loading.load("suite.yaml")
    assert (suite.training.unit, suite.model.base, suite.name) == ("patient", str(toy_model_dir), "own")
    ahead = call("train", "--suite", "suite.yaml", "--eps", "3", "--dry-run", "--no-measure", "--json")
    assert ahead.code == 0, ahead.err
    assert [row["arm"] for row in json.loads(ahead.out)["forecast"]] == ["sft-inf", "sft-eps3"]
    assert "are cut" not in ahead.err


def test_the_share_cut_is_what_training_tells(call: Call, toy_model_dir: Path) -> None:
    written([{"messages": turns(n, "word " * (n + 1))} for n in range(ROWS)])
    words = ("--model", str(toy_model_dir), "--max-length", "150", "--json")
    done = call("init", "own.jsonl", *words)
    assert done.code == 0, done.err
    found = survey.of("own.jsonl", str(toy_model_dir))
    share = found.cut(150)
    assert 0.05 < share < 0.95 and f"({share:.1%} of the records are cut)" in json.loads(done.out)["proposed"]
    assert any(f"{share:.1%} of the records" in line for line in json.loads(done.out)["warnings"])
    ahead = call(
        "train",
        "--suite",
        "suite.yaml",
        "--eps",
        "inf",
        "--dry-run",
        "--no-measure",
        "--set",
        "data.heldout=0",
    )
    told_rows = next(line for line in ahead.err.splitlines() if "rows are longer" in line)
    assert f"{round(share * ROWS)} of {ROWS} rows" in told_rows


def test_the_embedded_tokenizer_counts_for_a_model_that_is_not_here(call: Call) -> None:
    own()
    done = call("init", "own.jsonl", "--model", "some/model")
    assert done.code == 0, done.err
    assert "by builtin:tiny, since some/model is not here: its numbers differ" in done.out
    assert "next: dpaudit run suite.yaml --model some/model" in done.out
    suite = loading.load("suite.yaml")
    assert (suite.model.base, suite.candidates.family) == ("some/model", "invented")


def test_nothing_is_written_over(call: Call) -> None:
    own()
    Path("suite.yaml").write_text("mine")
    one_line(call("init", "own.jsonl"), "--out suite.yaml", "a file that is there already", "name another")
    assert Path("suite.yaml").read_text() == "mine"
    Path("gone.yaml").symlink_to("nowhere")
    one_line(call("init", "own.jsonl", "--out", "gone.yaml"), "there already")
    one_line(call("init", "own.jsonl", "--out", "own"), "a name that ends in .yaml", "--out own.yaml")
    assert sorted(path.name for path in Path().iterdir()) == [
        "gone.yaml",
        "mini.yaml",
        "own.jsonl",
        "suite.yaml",
    ]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("", ["own.jsonl", "an empty file"]),
        ('{"a": "zinnia"}\n', ["own.jsonl:1", "one of: prompt"]),
        ('{"text": "zinnia"}\n', ["own.jsonl", "dialogues to fine-tune on", "got plain text"]),
        ('{"prompt": "q", "chosen": "zinnia", "rejected": "b"}\n', ["dialogues", "got preference pairs"]),
        (dialogue(1, id="zinnia") * 2, ["own.jsonl:2: id", "the id of row 1 again"]),
    ],
)
def test_data_that_cannot_be_read_is_the_line_of_train(call: Call, content: str, wanted: list[str]) -> None:
    Path("own.jsonl").write_text(content)
    done = call("init", "own.jsonl")
    line = last(done.err)
    one_line(Outcome(done.code, done.out, line), *wanted)
    assert "zinnia" not in done.err and not Path("suite.yaml").exists()
    trained = call("train", "--suite", "mini.yaml", "--data", "own.jsonl", "--unit", "record")
    assert last(trained.err) == line


def test_other_mistakes_are_a_line(call: Call) -> None:
    own()
    one_line(call("init", "own.jsonl", "--unit", "pair"), "--unit", "record or patient", "pair")
    one_line(call("init", "own.jsonl", "--show-examples"), "a terminal", "training text", "a file or a pipe")
    for words, wanted in (
        (("own.jsonl", "--max-length", "9999"), ("--max-length", "at most 512", "9999")),
        (("own.jsonl", "--unit", "patient"), ("--unit patient", "no patient on 60 of 60 records")),
        (("none.jsonl",), ("none.jsonl", "no such file")),
        (("own.jsonl", "--model", "./none"), ("--model ./none", "no such folder")),
    ):
        done = call("init", *words)
        one_line(Outcome(done.code, done.out, f"{done.err.splitlines()[-1]}\n"), *wanted)
    assert not Path("suite.yaml").exists()


def test_examples_are_shown_with_their_mask_to_whoever_asks(
    call: Call, toy_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpaudit.commands import init

    own()
    monkeypatch.setattr(init, "_is_terminal", lambda: True)
    words = ("--model", str(toy_model_dir), "--max-length", "120", "--show-examples")
    done = call("init", "own.jsonl", *words)
    assert done.code == 0, done.err
    assert done.out.count("example ") == 3
    parts = {
        mark: "".join(line[2:] for line in done.out.splitlines() if line.startswith(mark)) for mark in "> "
    }
    assert SECRET in parts[" "] and SECRET not in parts[">"] and "Rest for" in parts[">"]
    assert SECRET not in Path("suite.yaml").read_text() + done.err


def test_pieces_show_what_encoding_learns_and_cuts(toy_model_dir: Path, tmp_path: Path) -> None:
    from dpaudit.models import tokenizers
    from dpaudit.models.encode import encode_record

    (tmp_path / "d.jsonl").write_text(dialogue(1))
    [one] = survey.of(str(tmp_path / "d.jsonl"), str(toy_model_dir)).measured
    tokenizer = tokenizers.load_tokenizer(str(toy_model_dir))
    (whole,) = encode_record(one.record, tokenizer, 1000)
    pieces = survey.pieces(one.record, str(toy_model_dir), one.tokens - 1)
    assert "".join(piece.text for piece in pieces) == tokenizer.decode(whole.input_ids)
    learned = [token for token, flag in zip(whole.input_ids, whole.answer_mask, strict=True) if flag][:-1]
    assert [piece.text for piece in pieces if piece.kind == "learned"] == [tokenizer.decode(learned)]
    assert pieces[-1].kind == "cut" and len(pieces) == 3


# ---- tables of a spreadsheet, and data that people brought


def as_excel(rows: Sequence[tuple[str, str]], path: Path, encoding: str = "utf-8-sig") -> Path:
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.writer(stream, delimiter=";", lineterminator="\r\n")
        writer.writerow(("Question", "Answer", ""))
        writer.writerows((*row, "") for row in rows)
    return path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_table_of_a_spreadsheet(encoding: str, call: Call, toy_model_dir: Path) -> None:
    rows = [(f"Does it hurt; day {n}?\nReally, so?", f'It does, "badly"; {n}') for n in range(ROWS)]
    as_excel(rows, Path("own.csv"), encoding)
    done = call("init", "own.csv", "--model", str(toy_model_dir))
    assert done.code == 0 and "data: 60 records (question and answer)" in done.out, done.err
    assert call("run", "suite.yaml", "--eps", "inf", "--dry-run", "--no-measure").code == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["dialogue_meqsum_en_dev", "dialogue_aci_en_dev", "dialogue_toyhom_zh_dev"])
def test_data_of_others(name: str, tmp_path: Path, toy_model_dir: Path) -> None:
    """The questions of MeQSum as a table with semicolons; the others as they are, the first rows of them."""
    lines = (SHARED / f"{name}.jsonl").read_text("utf-8").splitlines()[:200]
    if name.startswith("dialogue_meqsum"):
        pairs = [[turn["value"] for turn in json.loads(line)["conversations"]] for line in lines]
        source = as_excel([(q, a) for q, a in pairs], tmp_path / "own.csv")
    else:
        source = tmp_path / "own.jsonl"
        source.write_text("\n".join(lines), "utf-8")
    found = survey.of(str(source), "builtin:tiny")
    made = drafting.draft(Wanted(str(source)), found)
    suite_file.write(made, tmp_path / "s.yaml", ["dpaudit run s.yaml"])
    suite = loading.load(str(tmp_path / "s.yaml"))
    assert suite.data.languages == ("Chinese" if "_zh_" in name else "English")
    assert found.records == len(lines) and suite.data.source == str(source)
    assert suite.training.unit == ("patient" if "aci" in name else "record")
    assert ("Han" in found.script) == ("_zh_" in name)
