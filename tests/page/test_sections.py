"""What the sections choose to say of the findings that they are given."""

import re
from dataclasses import replace
from pathlib import Path

import fabricate
import pytest

from dpaudit.findings.baselines import Blind, Near
from dpaudit.findings.contamination import Contamination, TaskContamination, WithoutThem
from dpaudit.findings.membership import Per, Slope
from dpaudit.findings.preferences import Change, Incomparable, PreferenceChange, PreferenceResults
from dpaudit.findings.quality import Asking, MeasureChange, MeasureFigures
from dpaudit.findings.report import Acted, Lost, Report, Stage
from dpaudit.findings.together import OverSeeds
from dpaudit.findings.tries import Tried, Try
from dpaudit.page import phrases
from dpaudit.page.contamination import contamination
from dpaudit.page.extraction import extraction
from dpaudit.page.front import front
from dpaudit.page.inside import inside
from dpaudit.page.internal import internal
from dpaudit.page.joins import Joins
from dpaudit.page.judge import judge
from dpaudit.page.limits import limits
from dpaudit.page.measures import measures
from dpaudit.page.membership import membership
from dpaudit.page.numbers import Numbers
from dpaudit.page.preferences import preferences
from dpaudit.page.quality import quality
from dpaudit.page.render import render
from dpaudit.page.training import training
from dpaudit.page.verdicts import verdicts
from dpaudit.stages import report
from dpaudit.stages.read_results import Reading
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

NONE = Blind(None, None, None, None, alarm=False, units=12, finding="no baseline: too few")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    run_dir, plan = fabricate.run(tmp_path_factory.mktemp("runs"))
    return report.assemble(Reading(run_dir), plan)


def joined(made: Report) -> Joins:
    return Joins(made, Numbers(made.to_json()))


def test_a_joined_report_finds_what_belongs_to_an_arm(made: Report) -> None:
    joins = joined(made)
    assert [audit.part.arm for audit in joins.unclaiming] == ["sft-inf"]
    assert joins.promises["sft-eps4"].part.control == "sft-inf" and joins.has_control("sft-eps4")
    at, finding = joins.extraction["sft-eps8"]
    assert made.extraction[int(at.split("/")[-1])] is finding
    assert not joins.has_control("sft-inf") and joins.word("sft-inf") is None


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("not run", "Not run: type <code>dpaudit eval</code> to fill in it."),
        ("out of date", "Out of date, so it is not shown: type <code>dpaudit eval</code> again."),
        ("partial", "Not complete: type <code>dpaudit eval</code> for <code>a</code>, <code>b</code>."),
        ("not planned", "The suite asks for no judging."),
        ("not applicable", "Membership says nothing of a claim that hides labels only."),
        ("done", None),
    ],
)
def test_why_a_section_is_empty(state: str, says: str | None) -> None:
    stage = Stage(state, "dpaudit eval", ("a", "b"), ())  # type: ignore[arg-type]
    assert phrases.absence(stage, "it") == says


def test_the_front_warns_of_what_changes_every_figure(made: Report) -> None:
    assert front(joined(made)).banners == ()
    run = replace(made.run, insecure_seed=3, corpus_words=True, assumed_public=True, random_weights=True)
    arms = tuple(replace(arm, trainings=2) for arm in made.arms)
    lost = (Lost("claims", 1, "2026-01-01"),)
    warned = replace(made, run=run, arms=arms, records_lost=lost)
    banners = front(joined(warned)).banners
    assert len(banners) == 4 + sum(arm.private for arm in arms) + 1
    assert "Epsilon not claimed" in banners[0] and "1</data> entry " in banners[-1]


def test_a_preference_arm_is_told_what_it_lacks(made: Report) -> None:
    (said,) = quality(joined(made)).preference
    assert "No adapter with this loss was trained without noise" in said
    alike = tuple(replace(arm, loss="sft") if arm.method == "dpo" else arm for arm in made.arms)
    assert "No adapter with this loss" not in quality(joined(replace(made, arms=alike))).preference[0]


def test_what_is_not_known_of_a_preference_arm_is_said(made: Report) -> None:
    (said,) = quality(joined(made)).preference
    assert "No pairs were held out" in said  # the made-up run has none
    lacking = (Incomparable("dpo-sigmoid-eps8", "sft-eps8", 8.0),)
    results = PreferenceResults(0.95, (), (), lacking)
    shown = joined(replace(made, preferences=results))
    assert "No pairs were held out" not in quality(shown).preference[0]
    (said,) = preferences(shown).cautions
    assert "<code>sft-eps8</code> is not trained here" in said and "8</data>" in said
    assert preferences(joined(replace(made, preferences=replace(results, incomparable=())))).cautions == ()


@pytest.mark.parametrize(
    ("lower", "worse", "is_told"), [(0.4, None, True), (-0.1, None, False), (0.4, "why", False)]
)
def test_what_preference_training_cost_in_dialogues_is_said(
    made: Report, lower: float, worse: str | None, is_told: bool
) -> None:
    changes = (
        Change("accuracy", 0.4, 0.3, 0.5, 0.001),
        Change("bits_per_byte", 0.5, lower, 0.6, 0.001),
    )
    pair = PreferenceChange("dpo-sigmoid-eps8", "sft-eps4", "its start", changes, worse)
    shown = preferences(joined(replace(made, preferences=PreferenceResults(0.95, (), (pair,), ()))))
    assert len(shown.cautions) == is_told and len(shown.warnings) == (worse is not None)
    if is_told:
        assert "paid for its pairs in dialogues" in shown.cautions[0] and "+0.500" in shown.cautions[0]
        assert "no judge compared them" in shown.cautions[0]  # no rate of these two stands on the page


def test_a_task_that_a_model_did_not_answer_has_dashes(made: Report) -> None:
    models = tuple(replace(model, tasks=model.tasks[:1]) for model in made.quality[:1]) + made.quality[1:]
    rows = quality(joined(replace(made, quality=models))).models
    assert rows[0].cells[-4:] == ("–",) * 4 and len({len(row.cells) for row in rows}) == 1


def test_pairs_stand_apart_from_canaries(made: Report) -> None:
    audits = tuple(
        replace(audit, kind="preference") if audit.recipe == "loss" and "dpo" in audit.arm else audit
        for audit in made.audits
    )
    section = membership(joined(replace(made, audits=audits)))
    assert [[row.recipe for row in group] for group in section.preference] == [["loss"]]
    assert section.groups[-1][0].arm == "dpo-sigmoid-eps8" and section.groups[-1][1].arm is None
    assert "loss" not in {row.recipe for row in section.groups[-1]}


def test_the_primary_guesses_have_two_bounds_and_the_slope_of_their_score(made: Report) -> None:
    section = membership(joined(made))
    assert [row.arm for row in section.primary] == [arm.arm for arm in made.arms]
    row, (found, *_) = section.primary[0], made.audits
    assert found.fdp and f'data-key="{row.at}/fdp/epsilon_lower"' in row.in_family
    assert "0.46</data>" in (row.taken_off or "") and len(section.slopes) == 1
    for slope, said in (
        (Slope(1.0, 1.52, 0.0), "1.52</data>"),
        (Slope(0.0, None, 0.0), "no line can be fitted"),
    ):
        odd = replace(found, slopes={"canary": slope})
        noted = membership(joined(replace(made, audits=(odd, *made.audits[1:])))).slopes
        assert said in noted[1] and len(noted) == 2
    plain = tuple(replace(audit, slopes=None) for audit in made.audits)
    assert membership(joined(replace(made, audits=plain))).slopes == ()
    alarmed = tuple(replace(audit, blind=replace(fabricate.BLIND, alarm=True)) for audit in made.audits)
    rows = membership(joined(replace(made, audits=alarmed))).primary
    assert {(row.proven, row.in_family) for row in rows} == {("withheld", "withheld")}


def test_a_bound_of_the_method_stands_apart_from_those_of_adapters(made: Report) -> None:
    one = membership(joined(made))
    assert one.seeds == () and "--seeds" in (one.of_method or "")
    kind = OverSeeds(("a", "a-s1", "a-s2"), 8.0, 3, 0.4, 0.9, 0.6, 3.1, 1e-5, 0.95, "(eps,delta)", None)
    few = replace(kind, seeds=2, epsilon_lower=None, ceiling=None, note="needs three")
    assert made.together
    section = membership(joined(replace(made, together=replace(made.together, over_seeds=(kind, few)))))
    assert "0.60</data>" in section.seeds[0].proven and "needs three" in section.seeds[1].proven
    assert "It decides nothing" in (section.of_method or "")


def test_a_page_without_a_question_does_not_speak_of_tests(made: Report) -> None:
    def said(questions: int) -> str:
        assert made.together
        told = replace(made, together=replace(made.together, questions=questions))
        return " ".join(verdicts(joined(told)).presumes)

    assert "none was tested" in said(0) and "are tested together" not in said(0)
    assert "none was tested" not in said(2) and "are tested together" in said(2)


def test_what_weakens_a_membership_figure_is_noted_once(made: Report) -> None:
    assert membership(joined(made)).notes == ()
    per = Per("patient", "a sum", 1, 2)
    audits = tuple(
        replace(audit, equal_secrets=3, canaries=replace(audit.canaries, truncated=2, unscored=0, per=per))
        for audit in made.audits
    )
    notes = membership(joined(replace(made, audits=audits))).notes
    assert len(notes) == len(made.arms) + 2  # cut: once an arm; per patient and equal secrets: once
    assert "a patient's records are added up" in notes[-2] and "Equal secrets on both sides" in notes[-1]


def test_a_table_of_secrets_says_what_the_texts_tell(made: Report) -> None:
    assert extraction(joined(made)).secrets_beside == ()
    near = Near(150, 150, 9, 7, 11, 30)
    told = tuple(replace(finding, blind=NONE, near_duplicates=near) for finding in made.extraction)
    (beside,) = extraction(joined(replace(made, extraction=told))).secrets_beside
    assert beside.banner is None and "none: too few planted and kept out" in beside.notes[0]
    assert "On both sides of the coin" in beside.notes[1]


def test_levels_are_shown_where_there_are_several(made: Report) -> None:
    assert {row.rests_on for row in extraction(joined(made)).levels} == {"exact"}
    one = tuple(replace(finding, by_repetitions=finding.by_repetitions[:1]) for finding in made.extraction)
    assert extraction(joined(replace(made, extraction=one))).levels == ()


def test_an_arm_without_personal_fields_has_no_cells(made: Report) -> None:
    def without(tally: object) -> object:
        return replace(tally, fields=0, completed=0)  # type: ignore[type-var]

    pii = tuple(replace(f, members=without(f.members), non_members=without(f.non_members)) for f in made.pii)
    assert {row.cells for row in extraction(joined(replace(made, pii=pii))).persons} == {()}


def test_randomised_response_has_no_noise_to_show(made: Report) -> None:
    acted = Acted(name="randomised response", flip_probability=0.1)
    arms = tuple(replace(arm, privacy=replace(arm.privacy, mechanism=acted)) for arm in made.arms)
    row = training(joined(replace(made, arms=arms))).private[0]
    assert "none: labels flipped with probability" in row.cells[3] and row.cells[5:7] == ("–", "–")


def test_an_unfit_judge_is_told_and_compares_nothing(made: Report) -> None:
    assert judge(joined(made)).unfit is None and made.judge is not None
    unfit = judge(joined(replace(made, judge=replace(made.judge, fit=False, pairs=()))))
    assert unfit.compared is None and unfit.unfit is not None
    (untested,) = [row for row in unfit.controls if not row.is_tested]
    assert (untested.kind, untested.outcome) == ("swapped dose", "not tested")
    passport = replace(made.judge.passport, reasons=("one", "two"))
    told = judge(joined(replace(made, judge=replace(made.judge, fit=False, passport=passport))))
    assert told.reasons == ("/judge/passport/reasons/0", "/judge/passport/reasons/1")
    assert judge(joined(replace(made, judge=None))).asked is None


def test_the_page_names_the_model_that_judged_its_replies_and_what_was_not_tested(made: Report) -> None:
    assert made.judge is not None
    model, note = judge(joined(made)).who
    assert "builtin:tiny with builtin:judge" in model and "/judge/asked/oldest" in model
    assert "/judge/asked/forms/score" in model and "swapped dose (3 controls)" in note
    (own, _) = judge(joined(replace(made, judge=replace(made.judge, asked=None)))).who
    assert "is not kept" in own
    again = replace(made.judge.passport, repeat=made.judge.passport.swap)
    rows = judge(joined(replace(made, judge=replace(made.judge, passport=again)))).controls
    assert [row.outcome for row in rows if row.kind.startswith("asked twice")] == ["counts neither way"]


def test_the_passport_says_whether_the_judge_agrees_with_people(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    assert "agrees with people was not tested" in told_of_people(run_dir, plan)
    fabricate.people(run_dir)
    told = told_of_people(run_dir, plan)
    assert "People gave 24 verdicts on 22 of 100 judged prompts; the judge's is the same in 79.2 %" in told
    assert "Cohen's kappa is 0.620 [0.410, 0.830]." in told and "Below 30 prompts" in told
    fabricate.people(run_dir, kappa=None)
    assert "kappa cannot be told" in told_of_people(run_dir, plan)


def told_of_people(run_dir: RunDir, plan: Plan) -> str:
    made = report.assemble(Reading(run_dir), plan)
    told = judge(joined(made)).people
    assert told is not None and str(told) in render(made)
    return told.striptags()


def test_every_judge_that_was_tried_stays_on_the_page(made: Report) -> None:
    count, failed, fit = judge(joined(made)).tried
    assert (
        "2 passports" in count
        and "not fit" in failed
        and "injected: 5 of 20 instructions in an answer obeyed (plea)" in failed
    )
    assert fit.endswith(": fit.")
    assert len(judge(joined(replace(made, judge=None))).tried) == 3  # also where win rates are out of date
    (alone,) = judge(joined(replace(made, judges_tried=made.judges_tried[1:]))).tried
    assert alone == "No other judge was tried in this run."


def test_a_judge_that_is_no_longer_asked_for_is_still_told_as_tried(made: Report) -> None:
    only = replace(made, judge=None, judges_tried=made.judges_tried[1:])
    count, fit = judge(joined(only)).tried
    assert "One passport" in count and "not in force" in count and fit.endswith(": fit.")


def test_what_must_be_known_stands_beside_a_win_rate(made: Report) -> None:
    found = judge(joined(made)).rates
    assert found is not None and made.judge is not None
    cells = found.pairs[0].cells
    assert "the prompts are of 24 facts, fewer than 30" in found.common[0]
    assert "/judge/pairs/0/win_rate" in cells[0]
    assert "/judge/pairs/0/corrected/rate" in cells[1] and "one side is longer almost everywhere" in cells[2]
    assert "/correct/arm_right" in cells[3] and "/against_cut" in cells[4]
    assert "judged like the faults planted" in found.notes[0]
    assert "is not shown to fall" in found.trends[0] and "No trend along" in found.trends[1]
    assert "sft-inf is not trained" in found.not_compared[0]
    (example,) = found.examples
    assert [row.right for row in example.answers] == ["not right", "right"]
    assert "not shown" in example.answers[1].answer and found.no_examples is None
    pair = replace(made.judge.pairs[0], correct=None, arm_cut=None)
    private = replace(made.judge, pairs=(pair,), examples=(), no_examples="the prompts are private")
    told = judge(joined(replace(made, judge=private))).rates
    assert told is not None and told.pairs[0].cells[3:5] == ("not known", "not known")
    assert told.no_examples is not None and "the prompts are private" in told.no_examples


def test_what_holds_for_every_win_rate_is_said_once(made: Report) -> None:
    assert made.judge is not None
    pair = made.judge.pairs[0]
    facts, right = "the prompts are of 24 facts, fewer than 30", "neither answer is right in 9 of 10 prompts"
    pairs = (replace(pair, cautions=(right, facts)), replace(pair, cautions=(facts,)))
    found = judge(joined(replace(made, judge=replace(made.judge, pairs=pairs)))).rates
    assert found is not None and len(found.common) == 1 and facts in found.common[0]
    assert all(facts not in row.cells[0] for row in found.pairs)
    assert right in found.pairs[0].cells[0] and right not in found.pairs[1].cells[0]


def test_a_method_is_barred_once_by_what_its_texts_tell(made: Report) -> None:
    broken = replace(fabricate.BLIND, alarm=True)
    audits = tuple(
        replace(audit, records=replace(audit.records, blind=broken)) for audit in made.audits if audit.records
    )
    barred = [banner for banner, _ in internal(joined(replace(made, audits=audits))).banners]
    assert ["sft adapters" in (banner or "") for banner in barred] == [True, False]
    assert all(banner and "support no claim" in banner for banner in barred)


def test_without_axes_there_is_no_section_from_inside(made: Report) -> None:
    assert inside(joined(made)) is None


def test_a_stage_that_did_not_run_is_among_what_was_not_tested(made: Report) -> None:
    assert list(limits(joined(made))) == []
    stages = replace(made.stages, judge=replace(made.stages.judge, state="not planned"))
    stages = replace(stages, quality=replace(stages.quality, state="not run"))
    quality_line, judge_line = limits(joined(replace(made, stages=stages)))
    assert f"type <code>dpaudit eval --run {made.run.name}</code>" in quality_line and judge_line.endswith(
        "were not judged."
    )


def test_the_word_for_a_loss_has_its_reason_its_margin_and_its_control(made: Report) -> None:
    compared = made.comparisons
    assert compared is not None

    def shown(**change: object) -> str:
        other = replace(compared, **change)  # type: ignore[arg-type]
        section = quality(joined(replace(made, comparisons=other)))
        cells = (cell for against in section.against for row in against.rows for cell in row.cells)
        return " ".join([*cells, *section.notes, *section.controls])

    def because(reason: str) -> str:
        pairs = tuple(
            replace(row, margin=replace(row.margin, word="cannot tell", reason=reason)) if row.margin else row
            for row in compared.pairs  # type: ignore[union-attr]
        )
        return shown(pairs=pairs)

    good = shown()
    points = '<data value="0.05" data-key="/comparisons/margin" data-style="points">5.0</data> points'
    assert f"no worse than {points} below</strong>" in good
    assert f"<strong>worse</strong>, by more than {points}" in good
    assert "wide" not in good and "what <code>base</code> knows" not in good
    lost = tuple(replace(row, lower=-0.04, upper=-0.01) for row in compared.pairs)
    assert "below</strong><strong>, and a loss is shown</strong>" in shown(pairs=lost)
    gained = tuple(replace(row, lower=0.01, upper=0.04) for row in compared.pairs)
    assert "a loss is shown</strong>" not in shown(pairs=gained)
    half = tuple(
        replace(row, margin=replace(row.margin, is_wide=True)) if row.margin else row
        for row in compared.pairs
    )
    assert "more than half of what <code>base</code> knows above chance" in shown(pairs=half)
    nothing = tuple(
        replace(row, margin=replace(row.margin, detectable=None)) if row.margin else row
        for row in compared.pairs
    )
    cells = (
        quality(joined(replace(made, comparisons=replace(compared, pairs=nothing)))).against[0].rows[0].cells
    )
    assert cells[3] == "none" and "3.1</data>" in quality(joined(made)).against[0].rows[0].cells[3]
    assert quality(joined(made)).warnings == ()
    (wide,) = quality(joined(replace(made, comparisons=replace(compared, is_wide=True)))).warnings
    assert "5.0</data> points, is wide" in wide
    assert "can see a loss" in good and "has not shown that it could see a loss" in good
    assert "declared before training" in good and "the default" not in good
    default = shown(is_default=True)
    assert "the default: the suite declares none" in default and "declared before training" not in default
    for reason, said in {
        "prompts cut": "half of the prompts were cut",
        "margin reaches chance": "a model that only guesses would be no worse than <code>base</code>",
        "reference at chance": "<code>base</code> is not above chance",
        "too few clusters": "too few clusters, ",
        "at the ceiling": "at the ceiling, ",
        "neither is shown": "the data show neither",
        "no control": "no adapter without noise",
        "control not told": "it could see a loss",
    }.items():
        told = because(reason)
        assert f"cannot tell: {said}" in told or said in told
        assert "<strong>worse</strong>" not in told


def test_a_reference_at_chance_and_a_fall_do_not_contradict_each_other(made: Report) -> None:
    compared = made.comparisons
    assert compared is not None
    pairs = tuple(
        replace(row, upper=-0.5, margin=replace(row.margin, word="cannot tell", reason="reference at chance"))
        if row.margin
        else row
        for row in compared.pairs
    )
    section = quality(joined(replace(made, comparisons=replace(compared, pairs=pairs))))
    told = " ".join(cell for against in section.against for row in against.rows for cell in row.cells)
    assert "a loss of what it knew cannot be told; its accuracy fell all the same" in told
    assert "a loss is shown" not in told and "nothing to lose" not in told


def test_items_too_short_to_look_for_stand_beside_those_found(made: Report) -> None:
    clean = WithoutThem("base", 12, 0.5, 0.4, 0.2, 0.7)
    parts = (
        TaskContamination("few", 20, 1, 19, 1, ("a",), (clean,)),
        TaskContamination("none", 60, 60, 0, 0, (), ()),
        TaskContamination("short", 20, 0, 20, 0, (), ()),
    )
    section = contamination(joined(replace(made, contamination=Contamination(8, 0.7, parts))))
    few, none, short = (re.sub("<[^>]+>", "", text) for text in section.tasks)
    assert few.startswith("few: 1 of 1 items that could be looked for stand in the training text")
    assert "19 of its 20 items are too short to look for: whether they stand in the training" in few
    assert none.startswith("none: 0 of 60 items stand") and "too short" not in none
    assert none.endswith("What the base model was pretrained on was not looked at.")
    assert short.startswith("short: 20 of its 20 items are too short") and "What the base" not in short
    assert section.rows[0].cells[1].striptags().endswith("12 items")


def test_how_often_and_with_which_settings_a_benchmark_was_measured_stands_on_the_page(made: Report) -> None:
    whole, few = Asking("0.4", None, None, True), Asking("0.4", 20, 3, False)
    figures = {model.arm: model.tasks[0] for model in made.quality}
    task = made.quality[0].tasks[0].task
    once = Tried(task, 1, ())
    twice = Tried(task, 2, (Try(task, "2026-01-02", "d", None, few, figures),))
    alike = replace(made, asked_how={task: whole, "other": whole}, tried=(once,))
    section = quality(joined(alike))
    assert section.earlier == () and "measured once" in section.notes[1]
    assert section.notes[0].startswith("Items were asked in the chat template of training, with as many")
    section = quality(joined(replace(alike, asked_how={task: whole, "other": few}, tried=(twice,))))
    assert section.notes[0].startswith(f"The items of {task} were asked in the chat template")
    some = quality(joined(replace(alike, asked_how={task: replace(few, drawn=True)}))).notes[0]
    assert "whole clusters of each drawn until there were <data" in some and "20</data> items, by" in some
    assert "the first <data" in section.notes[1] and "without a chat template" in section.notes[1]
    (said,) = section.earlier
    refused = {made.quality[0].arm: (MeasureFigures("harm", "refusal", 0.25, 0.1, 0.4, 44, 44, True, 0, 0),)}
    free = Tried("harm", 2, (Try("harm", "2026-01-02", "d", None, few, {}, refused),))
    (free_said,) = quality(joined(replace(alike, tried=(free,)))).earlier
    assert "refusal <data" in free_said and "0.250</data> of <data" in free_said and "44</data>" in free_said
    assert "2</data> times" in said and "2026-01-02" in said and "20</data> of each" in said
    assert all(f"<code>{name}</code>" in said for name in figures)
    margins = " ".join(quality(joined(replace(made, margins_before=(0.02, 0.1)))).notes)
    assert "before it stood at" in margins and "10.0</data>" in margins
    assert "before it stood" not in " ".join(quality(joined(made)).notes)


def test_records_and_items_that_were_left_out_stand_beside_the_figure(made: Report) -> None:
    whole = quality(joined(made)).models[0]
    assert "left out" not in " ".join(whole.cells)
    first = made.quality[0]
    tasks = tuple(replace(task, left_out=7, cut=2) for task in first.tasks)
    model = replace(first, tasks=tasks, heldout_left_out=9, heldout_cut=4)
    cut = quality(joined(replace(made, quality=(model, *made.quality[1:])))).models[0]
    assert "9</data> left out" in cut.cells[0] and "4</data> cut" in cut.cells[0]
    warned = quality(joined(replace(made, quality=(model, *made.quality[1:])))).warnings
    assert len(warned) == len(tasks) and all("2</data> of " in one for one in warned)
    assert "7</data> left out" in cut.cells[3] and "2</data> with a cut prompt" in cut.cells[3]


def test_other_measures_have_their_figures_their_direction_and_their_words(made: Report) -> None:
    assert measures(joined(made)).heads == ()
    refusal = MeasureFigures("harm", "refusal", 0.2, 0.1, 0.3, 60, 60, True, 4, 2)
    unknown = replace(
        refusal, measure="odd", higher_is_better=None, alone="it is not known whether more is better"
    )
    whole = MeasureFigures("gen", "bleu", 12.5, None, None, 9, 0, True, 0, 0, "no score of its own an item")
    first, other, *rest = (replace(model, measures=(refusal, unknown, whole)) for model in made.quality)
    other = replace(other, measures=())
    assert made.comparisons is not None
    lost = MeasureChange(
        other.arm, "base", "harm", "refusal", True, -0.1, -0.2, -0.05, 0.001, 0.002, "worse", None, 60, 60
    )
    compared = replace(made.comparisons, measures=(lost,))
    section = measures(joined(replace(made, quality=(first, other, *rest), comparisons=compared)))
    assert [head.split(": ")[1] for head in section.heads] == [
        "refusal (more is better)",
        "odd (which way is better is not known)",
        "bleu (more is better)",
    ]
    whole_page = quality(joined(replace(made, quality=(first, other, *rest), comparisons=compared)))
    assert "harm: the beginning of" in whole_page.warnings[0] and "2</data> of " in whole_page.warnings[0]
    nothing = replace(compared, pairs=(), trend=(), controls=())
    (how, *_) = quality(
        joined(replace(made, comparisons=nothing, asked_how={"harm": Asking("0.4", None, None, True)}))
    ).notes
    assert how.startswith("Items were asked ")  # where no benchmark has right and wrong, too
    blind = replace(lost, word="cannot tell", reason="prompts cut")
    blinded = replace(compared, measures=(blind,))
    hidden = measures(joined(replace(made, quality=(first, other, *rest), comparisons=blinded)))
    assert "cannot tell: more than half of the prompts were cut" in hidden.against[0].rows[0].cells[0]
    said = section.models[0].cells
    assert "4</data> left out" in said[0] and "2</data> with a cut prompt" in said[0]
    assert "not compared: it is not known" in said[1]
    assert "12.500" in said[2] and "interval" not in said[2] and "not compared" in said[2]
    assert set(section.models[1].cells) == {"–"}
    ((reference, (row,)),) = ((of.reference, of.rows) for of in section.against)
    assert (reference, row.arm) == ("base", other.arm)
    assert "<strong>worse</strong>" in row.cells[0] and row.cells[1:] == ("–", "–")
    assert "refuse, found by words" in section.notes[1]
    assert "Other measures of the answers" in render(replace(made, quality=(first, other, *rest)))
