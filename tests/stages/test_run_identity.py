"""What a run is of: read from its files, and `not stated` where they do not say."""

import re
from dataclasses import replace
from pathlib import Path

import fabricate
import pytest

from dpaudit.models import licence as licences
from dpaudit.page.render import render, render_public
from dpaudit.stages import report, report_public
from dpaudit.stages.read_results import Reading
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

COUNTS = {"certain": 3500, "record": 300, "mia": 500, "extraction": 64, "gradient": 546}
COUNTS |= {"records": 4100, "pairs": 0, "texts": 0, "heldout": 300, "heldout_pairs": 0, "over_cap": 7}


def counted(run_dir: RunDir, **counts: int) -> None:
    manifest = run_dir.read_json("corpus/manifest.json")
    manifest["counts"] = counts
    fabricate.rewrite(run_dir, "corpus/manifest.json", manifest)
    fabricate.bind(run_dir)


def words(run_dir: RunDir, plan: Plan) -> str:
    """The identity as the page shows it."""
    html = render(report.assemble(Reading(run_dir), plan))
    section = html.split('<section id="identity">')[1].split("</section>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", section).split())


def test_the_data_stand_with_their_counts(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    counted(run_dir, **COUNTS, patients=3777)
    told = words(run_dir, plan)
    for said in (
        "Read 4,100 dialogues Patients",
        "Patients that the data name 3,777",
        "4,000 patient s; a coin put in or left out 300 real patients, 500 canaries, 64 secrets",
        "never trained on 300 records Cut",
        "at most 3 sequences cut in an adapter; 7 records above the limit of a patient",
        "546 canaries along axes of the weights",
        "4,000 units, counted from the data",
        "96 tokens of a sequence at most",
        "512 units expected in a batch",
    ):
        assert said.replace(" ", "") in told.replace(" ", ""), said


def test_what_the_run_does_not_say_is_not_zero(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    told = words(run_dir, plan)
    for term in ("Read", "Patients that the data name", "Held out, never trained on", "Who ran it"):
        assert f"{term} not stated" in told, term
    assert "dates of the records not declared in the suite; not declared in the suite" in told
    assert "by script" not in told
    assert "Base weights, by their hash not stated" in told
    declared = replace(plan, suite=replace(plan.suite, training=replace(plan.suite.training, unit="record")))
    counted(run_dir, **COUNTS)
    data = report.assemble(Reading(run_dir), declared).identity.data
    assert data.patients is None  # records are no patients


def test_languages_and_dates_are_as_declared_and_scripts_as_counted(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    data = replace(plan.suite.data, languages="English, Spanish", dates="2019 to 2023")
    declared = replace(plan, suite=replace(plan.suite, data=data))
    manifest = run_dir.read_json("corpus/manifest.json") | {"scripts": {"Latin": 3456, "Han": 654}}
    fabricate.rewrite(run_dir, "corpus/manifest.json", manifest)
    fabricate.bind(run_dir)
    said = "English, Spanish (records by script, which is no language: 3,456 Latin, 654 Han); 2019 to 2023"
    assert said.replace(" ", "") in words(run_dir, declared).replace(" ", "")
    blank = replace(plan, suite=replace(plan.suite, data=replace(data, languages=" \n", dates="")))
    assert words(run_dir, blank).count("not declared in the suite") == 2
    public = render_public(report_public.present(run_dir, declared))
    for private in ("3,456", "3456", "Latin", "Spanish", "2023"):
        assert private not in public
    assert "data.languages" in declared.settings("description")
    assert "dates" not in declared.to_json()["suite"]["data"]  # training does not depend on it


def test_a_limit_of_rows_is_told(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    assert "reading stopped" not in words(run_dir, plan)
    data = replace(plan.suite.data, limit=1200)
    assert "reading stopped after 1,200 rows" in words(
        run_dir, replace(plan, suite=replace(plan.suite, data=data))
    )


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("A ward. Run by Ada Lovelace, data office; for a test.", "Ada Lovelace, data office"),
        ("Responsible: B. Pascal", "B. Pascal"),
        ("Run by the data office. It is a test.", "the data office"),
        ("Nobody says who ran it.", None),
        ("", None),
    ],
)
def test_only_the_description_names_a_person(tmp_path: Path, description: str, name: str | None) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    described = replace(plan, suite=replace(plan.suite, description=description))
    assert report.assemble(Reading(run_dir), described).identity.responsible == name


def test_the_base_has_its_hash_and_its_licence(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    base = tmp_path / "own"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\nlicense: mine\n")
    for arm in plan.suite.grid.arms:
        figures = run_dir.read_json(f"train/{arm.name}/train.json")
        figures["base"] = {"config.json": "c" * 32, "model.safetensors": "a" * 32}
        fabricate.rewrite(run_dir, f"train/{arm.name}/train.json", figures)
    suite = replace(plan.suite, model=replace(plan.suite.model, base=str(base)))
    found = report.assemble(Reading(run_dir), replace(plan, suite=suite)).identity.base
    assert (found.weights, found.licence) == ({"model.safetensors": "a" * 32}, "apache-2.0")
    told = words(run_dir, replace(plan, suite=suite))
    assert "licence: apache-2.0" in told and "model.safetensors " + "a" * 32 in told


@pytest.mark.parametrize(
    ("readme", "config", "licence"),
    [
        ("---\nlicense: mit\n---\n", "{}", "mit"),
        ("---\nlicence: 'cc-by-4.0'\n---\n", None, "cc-by-4.0"),
        ("no head\nlicense: mit\n", '{"license": "other"}', "other"),
        (None, '{"license": 3}', None),
        (None, "[1]", None),
        ("---\nlicense: <b>\x00</b>\n---\n", "not json", None),
        (None, None, None),
    ],
)
def test_a_licence_is_what_the_folder_states(
    tmp_path: Path, readme: str | None, config: str | None, licence: str | None
) -> None:
    for name, text in (("README.md", readme), ("config.json", config)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert licences.licence_of(tmp_path) == licence
    assert licences.licence_of(None) is None


def test_a_base_that_is_gone_has_no_licence(tmp_path: Path) -> None:
    assert licences.folder_of(str(tmp_path / "gone")) is None
    builtin = licences.folder_of("builtin:tiny")
    assert builtin is not None and (builtin / "config.json").is_file()
