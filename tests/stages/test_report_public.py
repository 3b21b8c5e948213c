"""The public edition of a report: every field is classified, and nothing that is withheld is found in it."""

import json
import math
import re
import typing
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import fabricate
import pytest
import yaml

from dpaudit.evidence import public, release
from dpaudit.findings.answers import Question
from dpaudit.findings.extraction import Extraction
from dpaudit.findings.inside import Inside
from dpaudit.findings.membership import Membership
from dpaudit.findings.public import PublicReport
from dpaudit.findings.quality import Quality
from dpaudit.findings.report import Report, Spent
from dpaudit.page import markdown, records, render
from dpaudit.privacy.claim import Claim
from dpaudit.stages import report, report_public

FIELDS = yaml.safe_load((Path(__file__).parent / "public_fields.yaml").read_text(encoding="utf-8"))
NOTHING = public.Outside((), ("calibrated",))
MARK = "777123"  # in every planted number, however it is rounded or scaled
PLANTED = float(f"{MARK}4.5")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report.present(*fabricate.run(tmp_path_factory.mktemp("runs"), fabricate.ALL))


def editions(edition: PublicReport) -> dict[str, str]:
    """The edition in every form."""
    html = render.render_public(edition)
    return {
        "html": html,
        "json": json.dumps(edition.to_json(), ensure_ascii=False),
        "md": markdown.of_page(html),
        "csv": records.as_csv(edition),
        "junit": records.public_junit(edition),
    }


def key(cls: type) -> str:
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def names(cls: type, kind: str) -> list[str]:
    return list(FIELDS[key(cls)].get(kind, "").split())


# ---- every field is classified


def classes(cls: type, seen: dict[type, list[str]]) -> dict[type, list[str]]:
    """Every dataclass and NamedTuple that a report is made of -> its fields."""
    if cls in seen:
        return seen
    seen[cls] = [field.name for field in fields(cls)] if is_dataclass(cls) else list(cls._fields)  # type: ignore[attr-defined]
    hints = typing.get_type_hints(cls)
    waiting = [hints[name] for name in seen[cls]]
    while waiting:
        hint = waiting.pop()
        if isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "_fields")):
            classes(hint, seen)
        waiting += typing.get_args(hint)
    return seen


def unclassified(found: dict[type, list[str]]) -> list[str]:
    known = {key(cls): names(cls, "public") + names(cls, "withheld") for cls in found if key(cls) in FIELDS}
    return [
        f"{key(cls)}.{name}" for cls, its in found.items() for name in {*its} ^ {*known.get(key(cls), ())}
    ] + [f"{name} is no part of a report" for name in {*FIELDS} - {*map(key, found)}]


def test_every_field_of_a_report_is_public_or_withheld() -> None:
    found = classes(Report, {})
    assert unclassified(found) == []
    assert not any({*names(cls, "public")} & {*names(cls, "withheld")} for cls in found)
    found[Quality].append("one_more")  # a new figure that nobody classified
    assert unclassified(found) == ["quality.Quality.one_more"]


# ---- nothing that is withheld is found


def is_of_uncovered(part: Any, uncovered: Collection[str]) -> bool:
    rows = (Membership, Extraction, Inside, Quality)
    return isinstance(part, rows) and (part.arm in uncovered or isinstance(part, Quality))


def changed(
    part: Any, change: Callable[[Any], Any], uncovered: Collection[str], withheld: bool = False
) -> Any:
    """The same with every withheld leaf changed. Figures of adapters that epsilon does not cover are withheld
    in every class, and here accuracy is too: no benchmark is said to be public.
    """
    if isinstance(part, Claim):
        return part
    if is_dataclass(part) and not isinstance(part, type):
        withheld = withheld or is_of_uncovered(part, uncovered)
        hidden = {*names(type(part), "withheld")}
        if isinstance(part, Question) and part.side == "outside":
            hidden.add("power")
        new = {
            name: changed(value, change, uncovered, withheld or name in hidden)
            for name, value in vars(part).items()
            if name != "arm"
        }
        return replace(part, **new)
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return type(part)(*(changed(value, change, uncovered, withheld) for value in part))
    if isinstance(part, tuple):
        return tuple(changed(value, change, uncovered, withheld) for value in part)
    if isinstance(part, dict):
        return {name: changed(value, change, uncovered, withheld) for name, value in part.items()}
    return change(part) if withheld else part


def number(value: Any) -> Any:
    return PLANTED if isinstance(value, int | float) and not isinstance(value, bool) else value


def text(value: Any) -> Any:
    return f"PRIVATE {value}" if isinstance(value, str) else value


def found_in(edition: PublicReport, mark: str) -> list[str]:
    return [form for form, told in editions(edition).items() if mark in told.replace(",", "")]


def test_no_withheld_number_is_found(whole: Report) -> None:
    """All of them are planted, the release words are chosen again from them, and none comes out."""
    private = changed(whole, number, {"sft-inf"})
    private = replace(private, release=release.decide(private, private.rule))
    assert str(private.to_json()).count(MARK) > 1000
    assert found_in(public.of(private, NOTHING), MARK) == []
    sigma = [number_of_units_told(arm.privacy) for arm in private.arms]
    told = replace(
        private,
        arms=tuple(replace(arm, privacy=privacy) for arm, privacy in zip(private.arms, sigma, strict=True)),
    )
    assert found_in(public.of(told, NOTHING), MARK) == []


def number_of_units_told(spent: Spent) -> Spent:
    """A ledger whose noise would tell a number of units that was counted from the data."""
    return replace(
        spent, population_assumed=True, mechanism=replace(spent.mechanism, noise_multiplier=PLANTED)
    )


def test_a_number_on_the_list_is_found(whole: Report) -> None:
    """The search finds what is there."""
    audits = tuple(
        replace(found, canaries=replace(found.canaries, auc=PLANTED))
        if found.arm == "sft-eps8" and found.primary
        else found
        for found in whole.audits
    )
    edition = public.of(replace(whole, audits=audits), NOTHING)
    assert found_in(edition, MARK) == ["html", "json", "md", "csv"]


def test_no_withheld_text_is_found(whole: Report) -> None:
    private = changed(whole, text, {"sft-inf"})
    assert found_in(public.of(private, NOTHING), "PRIVATE") == []


def test_planted_bits_per_byte_are_never_found(whole: Report) -> None:
    quality = tuple(
        replace(model, bits_per_byte=replace(model.bits_per_byte, value=0.123456))
        if model.bits_per_byte
        else model
        for model in whole.quality
    )
    private = replace(whole, quality=quality)
    assert "0.123456" in str(private.to_json())
    assert found_in(public.of(private, NOTHING), "0.123") == []


def leaves(tree: Any) -> Iterator[float]:
    if isinstance(tree, dict | list):
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(inner)
    elif isinstance(tree, float) and math.isfinite(tree):
        yield tree


def test_no_number_of_report_json_but_those_on_the_list(whole: Report) -> None:
    """By its exact text, from four significant digits on; and the edition has no key of a withheld count."""
    edition = public.of(whole, NOTHING)
    shown = {repr(value) for value in leaves(edition.to_json())}
    hidden = {repr(value) for value in leaves(whole.to_json())} - shown
    long = {value for value in hidden if len(value.partition("e")[0].replace(".", "").strip("0-")) >= 4}
    assert len(long) > 200
    for form, told in editions(edition).items():
        assert long & {*re.findall(r"\d[\d.]*(?:e-?\d+)?", told)} == set(), form
    keys = ("population", "records", "patients", "max_length", "expected_batch", "bits_per_byte", "steps")
    assert not any(f'"{name}"' in json.dumps(edition.to_json()) for name in keys)


# ---- whose figures there are


def of_arms(edition: PublicReport) -> set[str]:
    rows = (*edition.attacks, *edition.secrets, *edition.inside, *edition.quality)
    return {row.arm for row in rows}


def figures(edition: PublicReport) -> list[float]:
    asked = [question for answer in edition.answers for question in answer.questions]
    named = ("p_value", "epsilon_lower", "ceiling", "power")
    return [value for question in asked for name in named if (value := getattr(question, name)) is not None]


def test_an_adapter_without_noise_has_no_figure(whole: Report) -> None:
    edition = public.of(whole, NOTHING)
    assert of_arms(edition) == {arm.arm for arm in whole.arms if arm.private}
    assert [arm.covered for arm in edition.adapters] == [arm.private for arm in whole.arms]
    assert edition.release == whole.release and figures(edition)
    told = render.render_public(edition)
    assert told.index(public.EDITION) < told.index("May it be released?")
    assert all(what in told.replace("&#39;", "'") for what in public.WITHHELD)


@pytest.mark.parametrize("setting", [{"insecure_seed": 7}, {"assumed_public": True}, {"corpus_words": True}])
def test_where_epsilon_does_not_cover_the_rows_there_is_no_figure(
    setting: dict[str, Any], whole: Report
) -> None:
    edition = public.of(replace(whole, run=replace(whole.run, **setting)), NOTHING)
    assert of_arms(edition) == set() and figures(edition) == []
    assert edition.answers and edition.release


def test_an_attack_that_rests_on_other_records_has_no_figure(whole: Report) -> None:
    edition = public.of(whole, public.Outside((), ()))
    assert edition.attacks == () and figures(edition) == []
    assert [answer.verdict for answer in edition.answers] == [
        answer.verdict for answer in (whole.together.answers if whole.together else ())
    ]


def test_a_public_benchmark_is_shown_of_the_base_and_of_private_adapters(whole: Report) -> None:
    edition = public.of(whole, public.Outside(("clinic_short",), ()))
    assert {row.task for row in edition.quality} == {"clinic_short"}
    assert {row.arm for row in edition.quality} == {"base", *(arm.arm for arm in whole.arms if arm.private)}


def test_it_is_written_beside_the_page_and_read_back(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    place, edition = report_public.run(run_dir, plan)
    assert place == run_dir.file("report/public.html") and "No claim was tested" in place.read_text("utf-8")
    assert PublicReport.from_json(edition.to_json(), "here") == edition
    assert edition.quality == () and edition.answers == ()
