"""The page: every number from report.json, nothing from outside, nothing private, nothing left unsaid."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fabricate
import pytest

from dpaudit.errors import UsageError
from dpaudit.evidence.guesses import Guesses
from dpaudit.findings.baselines import Near
from dpaudit.findings.membership import Bound, Membership, NearRecords
from dpaudit.findings.quality import Skipped, TasksAsked
from dpaudit.page import formats, numbers
from dpaudit.stages import report
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)


class Seen(HTMLParser):
    """What a page holds: data elements as (attributes, text), and digits that stand outside of any."""

    WATCHED = ("td", "dd", "p", "li")
    EXEMPT = ("data", "code", "svg", "h1", "th", "strong")  # names of arms and of the model may hold digits

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.data: list[tuple[dict[str, str | None], str]] = []
        self.loose: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "br"):
            self.open.append((tag, dict(attrs)))
        if tag == "data":
            self.data.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1][0] == tag, f"{tag} closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        if "data" in tags:
            attributes, text = self.data[-1]
            self.data[-1] = (attributes, text + data)
        lead = any(attributes.get("class") in ("lead", "facts") for _, attributes in self.open)
        watched = any(tag in self.WATCHED for tag in tags) and not any(tag in self.EXEMPT for tag in tags)
        if watched and not lead and re.search(r"\d", data):
            self.loose.append(data.strip())


def _page(runs: Path, *stages: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """The page and report.json of a made-up run, both made once for the tests that only read them."""
    key = (stages, repr(options))
    if key not in _PAGES:
        html, data = _reported(*fabricate.run(runs, stages or fabricate.ALL, **options))
        _PAGES[key] = html, json.dumps(data)
    html, text = _PAGES[key]
    return html, json.loads(text)


_PAGES: dict[tuple[tuple[str, ...], str], tuple[str, str]] = {}


def _reported(run_dir: RunDir, plan: Plan) -> tuple[str, dict[str, Any]]:
    html = report.run(run_dir, plan, QUIET).read_text(encoding="utf-8")
    return html, json.loads(run_dir.file("report/report.json").read_text(encoding="utf-8"))


def _seen(html: str) -> Seen:
    seen = Seen()
    seen.feed(html)
    assert not seen.open, seen.open
    return seen


def _words(html: str) -> str:
    """The page's text, spaces folded."""
    return " ".join(re.sub(r"<[^>]+>", " ", html.split("<body>")[1]).split())


@pytest.mark.parametrize(
    "stages", [fabricate.ALL, ("train",), ("train", "audit"), ("train", "evaluate", "judge")]
)
def test_every_number_is_the_one_in_report_json(tmp_path: Path, stages: tuple[str, ...]) -> None:
    html, data = _page(tmp_path, *stages)
    seen = _seen(html)
    assert len(seen.data) > 40
    for attributes, text in seen.data:
        value = numbers.look_up(data, attributes["data-key"] or "")
        exact = "" if value is None else repr(value) if isinstance(value, float) else str(value)
        assert attributes["value"] == exact
        assert text == formats.show(value, attributes["data-style"] or "")


def test_no_number_stands_on_the_page_without_its_key(tmp_path: Path) -> None:
    assert _seen(_page(tmp_path)[0]).loose == []


def test_the_page_fetches_nothing_and_runs_nothing(tmp_path: Path) -> None:
    html, _ = _page(tmp_path)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
    assert "https:" not in html and "http:" not in html
    assert not re.search(r"<script|\ssrc=|url\(|@import|\son\w+=|javascript:", html)
    assert set(re.findall(r'href="([^"]*)"', html)) <= {
        f"#{name}" for name in re.findall(r'<section id="(\w+)"', html)
    }
    assert not _seen(html).tags & {"script", "iframe", "img", "link", "object", "embed", "form"}


def test_neither_texts_nor_secrets_reach_the_page(tmp_path: Path) -> None:
    html, data = _page(tmp_path)
    for text in (fabricate.SECRET, fabricate.TEXT):
        assert text not in html and text not in json.dumps(data)
    assert "item-1" not in json.dumps(data)


def test_markup_in_a_description_is_text(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    described = replace(plan.suite, description='<script>alert("1")</script>&')
    html, _ = _reported(run_dir, replace(plan, suite=described))
    assert "<script" not in html
    assert ">&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;</p>" in html


@pytest.mark.parametrize(
    ("stages", "command"),
    [
        (("train", "extraction", "evaluate", "judge"), "dpaudit attack mia"),
        (("train", "audit", "evaluate", "judge"), "dpaudit attack extract"),
        (("train", "audit", "extraction", "judge"), "dpaudit eval"),
        (("train", "audit", "extraction", "evaluate"), "dpaudit judge"),
    ],
)
def test_a_stage_that_did_not_run_is_named_with_its_command(
    tmp_path: Path, stages: tuple[str, ...], command: str
) -> None:
    html, data = _page(tmp_path, *stages)
    command += f" --run {data['run']['name']}"  # another run may have been used last
    assert f"Not run: type <code>{command}</code>" in html
    assert [stage["command"] for stage in data["stages"].values() if stage["state"] != "done"] == [command]


def test_nothing_trained_is_one_line(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ())
    with pytest.raises(UsageError, match="type `dpaudit train` first"):
        report.run(run_dir, plan, QUIET)
    assert not run_dir.file("report").exists()


def test_arms_that_are_not_trained_yet_are_named(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    shutil.rmtree(run_dir.file("train/sft-eps1"))
    html, data = _reported(run_dir, plan)
    assert data["stages"]["train"]["absent"] == ["sft-eps1"]
    assert "Not complete: type <code>dpaudit train</code> for <code>sft-eps1</code>" in html


def test_an_outdated_file_is_named_and_not_shown(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    stale = run_dir.read_json("audit/sft-eps8/calibrated.json")
    stale["inputs"] = {"plan.json": "0" * 32}
    fabricate.rewrite(run_dir, "audit/sft-eps8/calibrated.json", stale)
    html, data = _reported(run_dir, plan)
    assert data["stages"]["audit"]["stale"] == ["audit/sft-eps8/calibrated.json"]
    assert ("sft-eps8", "calibrated") not in [(audit["arm"], audit["recipe"]) for audit in data["audits"]]
    assert (
        f"Not complete: type <code>dpaudit attack mia --run {run_dir.name}</code> for <code>sft-eps8</code>"
        in html
    )


def test_a_missing_key_names_file_and_key(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    broken = run_dir.read_json("train/sft-eps4/privacy.json")
    del broken["epsilon_pld"]
    fabricate.rewrite(run_dir, "train/sft-eps4/privacy.json", broken)
    with pytest.raises(UsageError, match=r"train/sft-eps4/privacy\.json: .*epsilon_pld"):
        report.run(run_dir, plan, QUIET)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    assert _reported(run_dir, plan) == _reported(run_dir, plan)


def test_an_insecure_seed_is_a_banner(tmp_path: Path) -> None:
    words = "Epsilon not claimed: the noise is reproducible"
    assert words in _page(tmp_path, insecure_seed=3)[0]
    assert words not in _page(tmp_path / "other")[0]


def test_the_embedded_model_is_called_a_teaching_model(tmp_path: Path) -> None:
    assert "builtin:tiny is a teaching model" in _words(_page(tmp_path)[0])


def test_an_unfit_judge_shows_no_win_rate(tmp_path: Path) -> None:
    html, data = _page(tmp_path, judge_fit=False)
    assert "is not fit, so no win rate is shown" in html
    assert data["judge"]["pairs"] == [] and "/judge/pairs" not in html
    assert "✕ below the minimum" in html


def test_a_suite_without_judging_is_not_told_to_judge(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train", "audit", "extraction", "evaluate"))
    silent = replace(plan, suite=replace(plan.suite, judging=None))
    html, data = _reported(run_dir, silent)
    assert data["stages"]["judge"]["state"] == "not planned"
    assert "dpaudit judge" not in html and "The suite asks for no judging." in _words(html)


def test_every_verdict_is_said_in_a_sentence(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    refuted = run_dir.read_json("audit/sft-eps1/calibrated.json")
    refuted["bound"]["correct"] = refuted["bound"]["guesses"]
    fabricate.rewrite(run_dir, "audit/sft-eps1/calibrated.json", refuted)
    fabricate.summary(run_dir, plan)
    words = _words(_reported(run_dir, plan)[0])
    assert "The claim is false: the right guesses of the attack prove an ε of at least" in words
    assert "tested at 0.0" in words
    assert "This audit cannot tell." in words
    assert "This relies on nothing that the trainer says." in words


def test_no_verdict_is_worded_as_a_proof(tmp_path: Path) -> None:
    words = _words(_page(tmp_path)[0]).lower()
    assert not re.search(r"claim holds|is safe|is private\b|verified|certified", words)
    assert "“not refuted” presumes a trainer who did not filter the canaries out" in words


def _with_control(tmp_path: Path, correct: int) -> str:
    """The words of the page where so many of 200 guesses on the non-private arm are right, and of every
    private arm half, under a ceiling of 4.18.
    """
    run_dir, plan = fabricate.run(tmp_path)
    for arm in plan.suite.grid.arms:
        file = f"audit/{arm.name}/calibrated.json"
        found = Membership.read(run_dir, file)
        guesses = Guesses(500, 200, 100 if arm.private else correct, 200, False, 0.95)
        found = replace(found, bound=Bound(**guesses.bound(1e-5), method="one-run", rule="a rule"))
        found.write(run_dir, file, ["plan.json"])
    fabricate.summary(run_dir, plan)
    return _words(_reported(run_dir, plan)[0])


def _card(words: str, arm: str) -> str:
    """What the first section says of an arm, up to the next arm's card."""
    return words.split("Is each claim true?")[1].split(f" {arm} claims ")[1].split("Membership attack")[0]


def test_a_control_that_shows_nothing_is_told(tmp_path: Path) -> None:
    assert "It finds nothing: nothing was proven even here." in _with_control(tmp_path, 100)


def test_a_control_that_proves_little_is_called_weak_and_encourages_nobody(tmp_path: Path) -> None:
    words = _with_control(tmp_path, 114)
    assert (
        "It finds little, a weak control: an ε of at least 0.03 , which is not above the smallest claim"
        in words
    )
    assert "to show what the attack can find: an ε" not in words
    assert "gives training data away" not in words
    for arm in ("sft-eps4", "sft-eps1"):
        assert "This audit cannot tell." in _card(words, arm)
    assert "trained without noise, the attack proves" in _card(words, "sft-eps1")


def test_a_claim_above_what_the_control_reached_was_not_really_tested(tmp_path: Path) -> None:
    """The ceiling lies above 4, and this attack reaches 2.90 without any noise."""
    words = _with_control(tmp_path, 195)
    four, one = _card(words, "sft-eps4"), _card(words, "sft-eps1")
    assert "no power" in four and "This audit cannot tell." in four
    assert "an adapter with no noise at all, such as sft-inf , would have been refuted" in one
    assert "ε ≤ 1 refuted ; ε ≤ 4 not refuted ; ε ≤ 8 no power ." in words
    assert "all guesses right would have proven 3.96, no more than the claimed 4" in four


def test_without_a_control_the_power_is_unknown(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    for arm in ("sft-inf",):
        run_dir.file(f"audit/{arm}/calibrated.json").unlink()
    fabricate.summary(run_dir, plan)
    words = _words(_reported(run_dir, plan)[0])
    assert "its power is unknown: no adapter was audited" in words and " not refuted " not in words.split(
        "How the verdict is reached"
    )[0].split("Is each claim true?")[1].replace("“Not refuted”", "")


def test_each_claim_is_put_in_plain_words(tmp_path: Path) -> None:
    words = _words(_page(tmp_path)[0])
    for limit in ("73.11 %", "98.21 %", "99.97 %"):  # e^eps / (1 + e^eps), rounded up
        assert f"put one patient in or out, nobody guesses more than {limit} right" in words
    assert "much better than by guessing (AUC one half)" not in words


def test_what_refuted_presumes_is_said(tmp_path: Path) -> None:
    words = _words(_page(tmp_path)[0])
    assert "“Refuted” presumes nothing about the trainer." in words
    assert not re.search(r"presumes nothing[.”]", words)
    assert "if all claims are true, any of them is refuted with a chance of at most 5.0 %" in words


def test_a_loss_has_three_words(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    words = _words(_reported(run_dir, plan)[0])
    assert "cannot tell: the data show neither" in words and "McNemar's exact test" in words
    html = run_dir.file("report/index.html").read_text(encoding="utf-8")
    assert "<strong>no worse than <data" in html and "<strong>worse</strong>, by more than <data" in html


def test_every_term_of_the_comparisons_is_explained_and_margin_means_one_thing(tmp_path: Path) -> None:
    html, _ = _page(tmp_path)
    terms = re.findall(r"<dt>(.*?)</dt>", html)
    assert {"chance", "margin", "points", "cluster", "p, Holm", "detectable", "log-odds"} <= set(terms)
    assert len(terms) == len(set(terms)) and "preference accuracy" not in terms
    assert not re.findall(r"[Rr]eward margin|[Mm]argin, nats|Margin: by how much", _words(html))


def test_clusters_stand_beside_items(tmp_path: Path) -> None:
    html, _ = _page(tmp_path)
    assert 'data-key="/quality/0/tasks/0/clusters"' in html


def test_what_was_checked_while_training_is_on_the_page(tmp_path: Path) -> None:
    html, data = _page(tmp_path)
    held = {arm["arm"]: arm["training"]["guards"] for arm in data["arms"]}
    assert held["sft-inf"] == ["loss finite"] and "noise scale as claimed" in held["sft-eps8"]
    checked = html.split("<h3>Checked while training</h3>")[1].split("</section>")[0]
    rows = {
        row.split("</th>")[0].split(">")[-1]: row.count("<td>held</td>") for row in checked.split("<tr>")[2:]
    }
    assert rows == {"loss finite": 5, "noise scale as claimed": 4}


def test_where_nothing_was_checked_it_is_said(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    for arm in plan.suite.grid.arms:
        figures = run_dir.read_json(f"train/{arm.name}/train.json") | {"guards": []}
        run_dir.write_json(f"train/{arm.name}/train.json", figures, ["plan.json"])
        fabricate.bind(run_dir, arm.name)
    assert "No check is on record" in _reported(run_dir, plan)[0]


def test_the_full_page_says_that_it_is_internal(tmp_path: Path) -> None:
    words = _words(_page(tmp_path)[0])
    assert "This is the full page, for those who hold the records." in words
    assert "sampling rate, steps and σ, which reveal the number of units" in words
    assert "the expected number of training units, 4,000 , counted from the data" in words


def test_a_declared_population_leaves_rate_and_noise_public(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    for arm in plan.suite.grid.arms:
        told = run_dir.read_json(f"train/{arm.name}/privacy.json") | {"population_assumed": False}
        run_dir.write_json(f"train/{arm.name}/privacy.json", told, ["plan.json"])
        fabricate.bind(run_dir, arm.name)
    words = _words(_reported(run_dir, plan)[0])
    assert "which reveal the number of units" not in words and "Assumed population" not in words


def test_a_control_at_chance_on_real_records_is_told(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    told = "Here the attack finds nothing even on sft-inf , trained without noise"
    assert told not in _words(_reported(run_dir, plan)[0])
    found = run_dir.read_json("audit/sft-inf/calibrated.json")
    found["records"] |= {"auc": 0.519, "auc_lower": 0.452, "auc_upper": 0.585}
    run_dir.write_json("audit/sft-inf/calibrated.json", found, ["plan.json"])
    assert told in _words(_reported(run_dir, plan)[0])


def test_scores_that_point_the_wrong_way_are_told(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    assert "Below one half:" not in _words(_reported(run_dir, plan)[0])
    found = run_dir.read_json("audit/dpo-sigmoid-eps8/loss.json")
    found["canaries"] |= {"auc": 0.445, "auc_lower": 0.395, "auc_upper": 0.496}
    run_dir.write_json("audit/dpo-sigmoid-eps8/loss.json", found, ["plan.json"])
    assert "Below one half: dpo-sigmoid-eps8 by loss" in _words(_reported(run_dir, plan)[0])


def test_what_a_dpo_arm_starts_from_and_lacks_is_told(tmp_path: Path) -> None:
    words = _words(_page(tmp_path)[0])
    assert "dpo-sigmoid-eps8 started from the base model and was trained on preference pairs only" in words
    assert "No adapter with this loss was trained without noise" in words
    assert "Its answers lose" not in words
    assert (
        "It finds held-out text less likely than the base model does, by 0.060 bits per byte"
        in words.replace(" ,", ",")
    )


def test_answers_that_lose_to_the_base_are_told(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    judged = run_dir.read_json("judge/summary.json")
    for pair in judged["pairs"]:
        pair |= {"win_rate": 0.01, "lower": 0.0, "upper": 0.03}
    run_dir.write_json("judge/summary.json", judged, ["plan.json"])
    told = "Its answers lose to those of the base model: it wins 1.0 % ."
    assert _words(_reported(run_dir, plan)[0]).count(told) == 1  # of the DPO arm alone


def test_a_chained_arm_names_the_arm_that_it_goes_on_from() -> None:
    plan = fabricate.plan_named("chained")
    grid = replace(plan.suite.grid, chain=True, epsilons=(16.0, 8.0, 4.0, 1.0))
    assert (
        report._start(replace(plan, suite=replace(plan.suite, grid=grid)), Arm("dpo", "sigmoid", 8.0))
        == "sft-eps4"
    )
    assert report._start(plan, Arm("dpo", "sigmoid", 8.0)) == "the base model"


def test_a_chained_arms_spending_is_explained(tmp_path: Path) -> None:
    told = "Spent ε includes the stages that an adapter starts from"
    run_dir, plan = fabricate.run(tmp_path)
    assert told not in _words(_reported(run_dir, plan)[0])
    chained = replace(plan, suite=replace(plan.suite, grid=replace(plan.suite.grid, chain=True)))
    words = _words(_reported(run_dir, chained)[0])
    assert told in words and "dpo-sigmoid-eps8 started from sft-eps4 and was trained" in words


def test_a_task_that_was_left_out_is_told(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    row = {"task": "clinic_choice", "expected": "its items", "got": "a run on other data"}
    TasksAsked({}, (Skipped(**row),)).write(run_dir, "evaluate/tasks.json")
    words = _words(_reported(run_dir, plan)[0])
    assert "clinic_choice was skipped: expected its items, got a run on other data." in words


@pytest.mark.parametrize(
    ("model", "data", "title"),
    [
        ("builtin:tiny", "builtin:clinic", "builtin:tiny, fine-tuned on builtin:clinic"),
        ("models/own/", "d/ward.jsonl", "own, fine-tuned on ward.jsonl"),
        ("owner/name", "ward.jsonl", "name, fine-tuned on ward.jsonl"),
    ],
)
def test_the_title_names_model_and_data(tmp_path: Path, model: str, data: str, title: str) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    chosen = replace(
        plan.suite, model=replace(plan.suite.model, base=model), data=replace(plan.suite.data, source=data)
    )
    html, _ = _reported(run_dir, replace(plan, suite=chosen))
    assert f"<h1>{title}</h1>" in html
    assert ("teaching model" in _words(html)) == model.startswith("builtin:")


def test_the_composed_epsilon_is_shown_where_it_was_computed(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    run_dir.file("audit/summary.json").unlink()
    assert "the composed ε is not among" in _reported(run_dir, plan)[0]
    fabricate.summary(run_dir, plan)
    found = run_dir.read_json("audit/summary.json") | {"composed_epsilon": 11.803}
    run_dir.write_json("audit/summary.json", found, ["plan.json"])
    said = _words(_reported(run_dir, plan)[0])
    assert "Anybody who receives all private adapters of this run together ( sft-eps8 , sft-eps4 ," in said
    assert "faces ε = 11.81 at δ = 1e−5" in said


def test_a_rate_without_a_threshold_of_its_own_is_marked(tmp_path: Path) -> None:
    html, data = _page(tmp_path)
    assert not data["audits"][0]["canaries"]["tpr_at_fpr"]["measurable"]
    assert 'data-key="/audits/0/canaries/tpr_at_fpr/tpr_on_curve"' in html
    assert "too few controls" in _words(html)


def test_a_recipe_without_a_bound_and_without_a_baseline_is_shown(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    found = run_dir.read_json("audit/sft-eps4/zlib.json") | {"bound": None, "blind": None, "records": None}
    fabricate.rewrite(run_dir, "audit/sft-eps4/zlib.json", found)
    _, data = _reported(run_dir, plan)
    assert ("sft-eps4", None) in [(audit["arm"], audit["bound"]) for audit in data["audits"]]


def test_broken_coins_and_near_duplicates_are_told_in_words(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    clean, data = _reported(run_dir, plan)
    before, bounds = _words(clean), clean.count('/bound/epsilon_lower"')
    assert "coin file is broken" not in before and "ear-duplicates across" not in before
    assert "withheld" not in before and bounds >= len(data["audits"])
    for file in run_dir.file("audit").glob("*/*.json"):
        found = json.loads(file.read_text())
        alarm = {"auc": 0.9, "auc_lower": 0.8, "auc_upper": 0.95, "p_value": 2e-4, "alarm": True}
        alarm |= {"units": 300, "finding": "broken coins"}
        near = Near(150, 150, 9, 7, 11, 30)
        without = NearRecords(
            **vars(near), n_without=270, auc_without=0.51, auc_without_lower=0.4, auc_without_upper=0.6
        )
        if found.get("kind") == "extract":
            found |= {"blind": alarm, "near_duplicates": vars(near)}
        else:
            found["blind"], found["equal_secrets"] = alarm, 3
            found["records"] |= {
                "near_duplicates": vars(without),
                "per": {"unit": "patient", "score": "a sum", "records_least": 1, "records_most": 4},
            }
            found["canaries"] |= {
                "per": {"unit": "patient", "score": "a sum", "records_least": 1, "records_most": 1}
            }
        fabricate.rewrite(run_dir, file.relative_to(run_dir.path).as_posix(), found)
    fabricate.summary(run_dir, plan)
    html, _ = _reported(run_dir, plan)
    words = _words(html)
    for told in (
        "No verdict can be given: the texts alone show which canaries were trained on",
        "This table supports no claim: the texts alone show which secrets were trained on",
        "This table supports no claim: the texts alone show which patients were trained on",
        "Blind baseline (answers): a classifier that sees the texts alone separates trained on and left out "
        "with an AUC of 0.900",
        "9 of 150 patients that were left out have a record nearly the same as a record that was trained on.",
        "9 of 150 patients that were left out have a record nearly the same as a record that was trained on",
        "Without all 30 that have a near-duplicate anywhere, the AUC of sft-inf",
        "3 canaries that were left out have the same secret as a canary that was trained on",
        "A bound is per patient: the scores of a patient's records are added up",
        "With broken coins it shows nothing",
    ):
        assert told in words, told
    assert "is proven" not in words.split("How the verdict is reached")[0].replace("nothing", "")
    # of bounds from such coins no number is left, in no table and not in the chart
    assert '/bound/epsilon_lower"' not in html and "control_epsilon_lower" not in html
    assert words.count("withheld") >= len(data["audits"]) and "proven at least" not in html
    assert not _seen(html).loose


def test_words_of_the_corpus_and_the_canaries_share_are_told(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    plain = _words(_reported(run_dir, plan)[0])
    assert "does not cover the words" not in plain and "Canaries weigh" not in plain
    manifest = run_dir.read_json("corpus/manifest.json")
    manifest["canary_share"] = {"sft": {"units": 0.282, "bytes": 0.039}}
    run_dir.write_json("corpus/manifest.json", manifest, ["plan.json"])
    fabricate.bind(run_dir)
    rare = replace(plan.suite, candidates=replace(plan.suite.candidates, family="rare_unigram"))
    html, data = _reported(run_dir, replace(plan, suite=rare))
    words = _words(html)
    assert "does not cover the words of the canaries" in words
    assert "sft 28.2" in words and "of the units and 3.9" in words and not _seen(html).loose
    assert data["run"]["canary_share"] == {"sft": {"units": 0.282, "bytes": 0.039}}


def test_what_was_cut_or_not_scored_is_told_arm_by_arm(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    assert "longer than the context" not in _words(_reported(run_dir, plan)[0])
    for arm, cut in (("sft-inf", 3), ("sft-eps4", 5)):
        for file in run_dir.file(f"audit/{arm}").glob("*.json"):
            found = json.loads(file.read_text())
            if found.get("kind") != "extract":
                found["canaries"] |= {"truncated": cut, "unscored": 1}
                fabricate.rewrite(run_dir, file.relative_to(run_dir.path).as_posix(), found)
    words = _words(_reported(run_dir, plan)[0])
    for arm, cut in (("sft-inf", 3), ("sft-eps4", 5)):
        told = (
            f"{arm} : {cut} are longer than the context and were scored on the part that fits, and 1 could "
            "not be scored."
        )
        assert words.replace(f"{arm}:", f"{arm} :").count(told) == 1


def test_a_missing_baseline_is_named(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    none = dict.fromkeys(("auc", "auc_lower", "auc_upper", "p_value"))
    none |= {"alarm": False, "units": 12, "finding": "no baseline: too few"}  # type: ignore[dict-item]
    for file in run_dir.file("audit").glob("*/*.json"):
        found = json.loads(file.read_text())
        if "records" in found:
            found["records"]["blind"] = none
        fabricate.rewrite(run_dir, file.relative_to(run_dir.path).as_posix(), found | {"blind": none})
    words = _words(_reported(run_dir, plan)[0])
    assert "no baseline: too few" in words and "none: too few planted and kept out" in words
    assert "none: too few members or others" in words
    assert "none: too few trained on and left out" in words


def test_private_curves_stand_under_their_heading(tmp_path: Path) -> None:
    html, _ = _page(tmp_path)
    internal = html.split('<section id="internal"')[1].split("</section>")[0]
    assert "<h2>Internal: not covered by epsilon</h2>" in internal
    assert 'id="loss-title"' in internal and 'id="clipped-share-title"' in internal
    assert html.count('id="loss-title"') == 1
    assert internal.count("/records/auc") == html.count("/records/auc") > 0


def test_ids_occur_once(tmp_path: Path) -> None:
    ids = re.findall(r'\sid="([^"]+)"', _page(tmp_path)[0])
    assert len(ids) == len(set(ids))


def test_the_stage_loads_nothing_heavy() -> None:
    code = (
        "import sys, dpaudit.stages.report; print([m for m in ('torch', 'jinja2', 'numpy') if m in "
        "sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
