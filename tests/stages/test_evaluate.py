"""The evaluate stage, with the real lm-eval package on the toy model."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import fabricate
import numpy as np
import pytest

from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.findings.contamination import Contamination
from dpaudit.findings.quality import Comparisons, Measured, TasksAsked
from dpaudit.judging import quality
from dpaudit.models import harness, items
from dpaudit.pipeline import later as command_line
from dpaudit.stages import benchmarks, contaminated, evaluate, report, tries
from dpaudit.stages.integrity import custody
from dpaudit.storage import seals
from dpaudit.storage.custody import SEAL_KEY
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations, loading
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Evaluation, Model, Schedule, Suite, Task, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
ARMS = ("sft-inf", "sft-eps8", "sft-eps1")
ANSWERS = ["Take it every six hours.", "Do not take it.", "See a doctor.", "Drink water."]


def choice_rows() -> list[dict]:
    """Twelve items over four conditions, so that items come in clusters of three."""
    return [
        {
            "id": f"item-{n:02d}",
            "question": f"What should I take for fever number {n}?",
            "choices": ANSWERS[n % 4 :] + ANSWERS[: n % 4],
            "answer": (n * 7) % 4,
            "form": "en",
            "condition": f"fever {n % 4}",
        }
        for n in range(12)
    ]


def heldout_records() -> list[Record]:
    return [
        Record(
            f"h{n}",
            (Turn("user", f"My throat hurts, day {n}."), Turn("assistant", ANSWERS[n % 4])),
            f"p{n // 2}",
        )
        for n in range(6)
    ]


@pytest.fixture(scope="module")
def adapters(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One random LoRA adapter of the toy model for every arm."""
    import peft
    import torch
    import transformers

    folders = {}
    for seed, arm in enumerate(ARMS):
        folders[arm] = tmp_path_factory.mktemp("arms") / arm
        model = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
            peft.get_peft_model(model, config).save_pretrained(folders[arm], safe_serialization=True)
    return folders


def make_run(
    folder: Path, model: Path, adapters: dict[str, Path], tasks: tuple[Task, ...]
) -> tuple[RunDir, Plan]:
    training = Training(Schedule(8, 2, 0.01), Schedule(8, 2, 0.01))
    suite = Suite(
        "toy",
        training,
        model=Model(str(model), 96),
        grid=Grid((8.0, 1.0)),
        evaluation=Evaluation(tasks, margin=0.05, batch=8),
    )
    plan, run_dir = Plan(suite), RunDir(folder / "run")
    run_dir.path.mkdir(parents=True)
    seals.write_seal_key(run_dir.file(SEAL_KEY))
    run_dir.file("plan.json").write_text(json.dumps(plan.to_json()))
    declarations.keep(run_dir, plan)
    run_dir.write_lines("corpus/heldout.jsonl", (r.to_json() for r in heldout_records()))
    run_dir.write_lines("corpus/choices.jsonl", choice_rows())
    learnt = Record("r", (Turn("user", choice_rows()[3]["question"].upper()), Turn("assistant", "Hm.")))
    row = {"kind": "certain", "id": "r", "records": [learnt.to_json()]}
    run_dir.write_lines("corpus/candidates.jsonl", [row, {"kind": "canary", "id": "c", "records": []}])
    run_dir.write_json("corpus/manifest.json", {"files": {custody.COINS: ""}}, ["plan.json"])
    for arm, source in adapters.items():
        shutil.copytree(source, run_dir.file(f"train/{arm}/adapter"))
    fabricate.bind(run_dir)
    return run_dir, plan


@pytest.fixture(scope="module")
def evaluated(
    toy_model_dir: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDir, Plan]:
    folder = tmp_path_factory.mktemp("evaluate")
    run_dir, plan = make_run(folder, toy_model_dir, adapters, (Task("clinic_choice", "builtin:clinic"),))
    evaluate.run(run_dir, plan, QUIET)
    return run_dir, plan


def choice_logprobs(run_dir: RunDir, plan: Plan, name: str) -> list[list[float]]:
    """The slow obvious double of lm-eval: log p(choice | prompt) one sequence at a time."""
    from dpaudit.models.encode import prompt_ids

    model = evaluate.load_model(run_dir, plan, [name])
    rows = []
    with model.active(None if name == "base" else name):
        for row in choice_rows():
            prefix = prompt_ids((Turn("user", row["question"]),), model.tokenizer)
            choices = [model.tokenizer(c, add_special_tokens=False)["input_ids"] for c in row["choices"]]
            rows.append([float(model.sequence_logprobs(prefix, [ids])[0]) for ids in choices])
    return rows


@pytest.mark.parametrize("name", ["base", "sft-eps8"])
def test_items_are_those_of_a_direct_computation(evaluated: tuple[RunDir, Plan], name: str) -> None:
    run_dir, plan = evaluated
    items = run_dir.read_json(f"evaluate/{name}.json")["items"]["clinic_choice"]
    logprobs = choice_logprobs(run_dir, plan, name)
    for row, scores, item in zip(choice_rows(), logprobs, items, strict=True):
        identity, correct, margin, cluster, brier, kept, *_ = item
        assert kept == pytest.approx(scores, abs=1e-3)
        shares = np.exp(scores) / np.exp(scores).sum()
        assert brier == pytest.approx(((shares - (np.arange(4) == row["answer"])) ** 2).sum(), abs=1e-3)
        right = scores.pop(row["answer"])
        assert identity == row["id"]
        assert margin == pytest.approx(right - max(scores), abs=1e-3)
        assert correct == int(right > max(scores))
        assert cluster == f"condition-{int(row['condition'][-1])}"


def test_items_in_the_training_text_are_named_and_accuracy_is_given_without_them(
    evaluated: tuple[RunDir, Plan],
) -> None:
    run_dir, _ = evaluated
    (task,) = Contamination.read(run_dir, contaminated.FILE).tasks
    assert (task.task, task.items, task.found, task.ids) == ("clinic_choice", 12, 1, ("item-03",))
    assert (task.looked_for, task.too_short) == (12, 0)
    assert contaminated.said(task).startswith(
        "clinic_choice: 1 of 12 items stand in the training text; their"
    )
    assert [model.arm for model in task.models] == ["base", *ARMS]
    for model in task.models:
        items = run_dir.read_json(f"evaluate/{model.arm}.json")["items"]["clinic_choice"]
        right = [correct for name, correct, *_ in items if name != "item-03"]
        assert model.without == pytest.approx(sum(right) / 11) and model.items == 11
        assert model.lower <= model.without <= model.upper


def test_arms_differ_and_the_base_is_asked_with_adapters_off(evaluated: tuple[RunDir, Plan]) -> None:
    run_dir, _ = evaluated
    margins = {
        name: tuple(item[2] for item in run_dir.read_json(f"evaluate/{name}.json")["items"]["clinic_choice"])
        for name in ("base", *ARMS)
    }
    assert len(set(margins.values())) == 4


def test_bits_per_byte_are_those_of_transformers_own_loss(evaluated: tuple[RunDir, Plan]) -> None:
    import torch

    from dpaudit.models.encode import encode

    run_dir, plan = evaluated
    result = run_dir.read_json("evaluate/sft-inf.json")
    model = evaluate.load_model(run_dir, plan, ["sft-inf"])
    bits, size = 0.0, 0
    for record, (identity, record_bits, record_bytes, _) in zip(
        heldout_records(), result["heldout"], strict=True
    ):
        coded = encode(record.turns, model.tokenizer, 96)
        with model.active("sft-inf"), torch.no_grad():
            ids, labels = torch.tensor([[coded.input_ids], [coded.labels]], device=model.model.device)
            mean = model.model(input_ids=ids, labels=labels).loss.item()
        direct = mean * sum(coded.answer_mask) / math.log(2)
        assert identity == record.id
        assert record_bits == pytest.approx(direct, rel=1e-4)
        assert record_bytes == coded.answer_bytes
        bits, size = bits + direct, size + coded.answer_bytes
    found = result["quality"]["bits_per_byte"]
    assert found["value"] == pytest.approx(bits / size, rel=1e-4)
    assert found["lower"] < found["value"] < found["upper"]


def test_pairs_are_differences_on_the_same_items(evaluated: tuple[RunDir, Plan]) -> None:
    run_dir, _ = evaluated
    summary = run_dir.read_json("evaluate/summary.json")
    results = {name: run_dir.read_json(f"evaluate/{name}.json") for name in ("base", *ARMS)}
    accuracy = {(p["arm"], p["against"]): p for p in summary["pairs"] if p["measure"] == "accuracy"}
    assert set(accuracy) == {
        ("sft-inf", "base"),
        ("sft-eps8", "base"),
        ("sft-eps1", "base"),
        ("sft-eps8", "sft-inf"),
        ("sft-eps1", "sft-inf"),
    }
    for (arm, against), pair in accuracy.items():
        ours, theirs = (
            np.array([i[1] for i in results[n]["items"]["clinic_choice"]]) for n in (arm, against)
        )
        assert pair["difference"] == pytest.approx((ours - theirs).mean())
        assert pair["lower"] <= pair["difference"] <= pair["upper"]
        assert (pair["items"], pair["clusters"]) == (12, 4)
        assert pair["margin"]["p_holm"] >= pair["p_value"]
    bits = [p for p in summary["pairs"] if p["measure"] == "bits_per_byte" and p["against"] == "sft-inf"]
    for pair in bits:
        ours, theirs = (results[n]["quality"]["bits_per_byte"]["value"] for n in (pair["arm"], "sft-inf"))
        direct = ours - theirs
        assert pair["difference"] == pytest.approx(direct)
        assert pair["clusters"] == 3
    assert {(t["task"], t["measure"]) for t in summary["trend"]} == {
        ("clinic_choice", "accuracy"),
        ("clinic_choice", "log_odds"),
        (None, "bits_per_byte"),
    }
    assert all(t["arms"] == list(ARMS) for t in summary["trend"])


def test_outputs_hold_no_text(evaluated: tuple[RunDir, Plan]) -> None:
    run_dir, _ = evaluated
    written = "".join(path.read_text() for path in run_dir.file("evaluate").glob("*.json"))
    for text in (*ANSWERS, "throat", "What should I take", "fever"):
        assert text not in written


def test_what_is_current_is_kept_and_what_is_stale_is_redone(
    toy_model_dir: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    run_dir, plan = make_run(tmp_path, toy_model_dir, adapters, ())
    evaluate.run(run_dir, plan, QUIET)
    before = {name: run_dir.file(f"evaluate/{name}.json").stat().st_mtime_ns for name in ("base", *ARMS)}
    evaluate.run(run_dir, plan, QUIET)
    assert before == {name: run_dir.file(f"evaluate/{name}.json").stat().st_mtime_ns for name in before}
    changed = run_dir.file("train/sft-eps1/adapter/adapter_model.safetensors")
    shutil.copy(adapters["sft-inf"] / "adapter_model.safetensors", changed)
    with pytest.raises(
        UsageError, match=r"sft-eps1/adapter/adapter_model.safetensors: .* got an altered file"
    ):
        evaluate.run(run_dir, plan, QUIET)
    fabricate.bind(run_dir, "sft-eps1")
    evaluate.run(run_dir, plan, QUIET)
    after = {name: run_dir.file(f"evaluate/{name}.json").stat().st_mtime_ns for name in before}
    assert {name for name in before if before[name] != after[name]} == {"sft-eps1"}
    summary = run_dir.read_json("evaluate/summary.json")
    same = next(p for p in summary["pairs"] if (p["arm"], p["against"]) == ("sft-eps1", "sft-inf"))
    assert same["difference"] == 0.0


def test_a_degraded_arm_shows_what_a_task_can_see(evaluated: tuple[RunDir, Plan]) -> None:
    """Half of the adapter is asked once more, and is neither the whole of it nor the base."""
    run_dir, _ = evaluated
    half = Measured.read(run_dir, "evaluate/sft-inf-half.json")
    assert half.heldout == () and half.quality.bits_per_byte is None
    margins = {
        name: [
            item.log_odds for item in Measured.read(run_dir, f"evaluate/{name}.json").items["clinic_choice"]
        ]
        for name in ("base", "sft-inf", "sft-inf-half")
    }
    assert len({tuple(found) for found in margins.values()}) == 3
    summary = Comparisons.read(run_dir, "evaluate/summary.json")
    assert [(row.arm, row.factor) for row in summary.controls] == [("sft-inf", 0.5), ("sft-inf", 0.0)]
    assert summary.controls[1].difference == pytest.approx(
        -next(
            pair.difference
            for pair in summary.pairs
            if (pair.arm, pair.against, pair.measure) == ("sft-inf", "base", "accuracy")
        )
    )
    assert not summary.is_default and summary.fewest == 59 and summary.family == 5
    said = {pair.margin.reason for pair in summary.pairs if pair.margin}
    assert said <= {"too few clusters", "reference at chance"}  # four conditions


def test_a_scaled_adapter_is_between_the_base_and_the_whole(
    evaluated: tuple[RunDir, Plan],
) -> None:
    from dpaudit.models.encode import encode

    run_dir, plan = evaluated
    model = evaluate.load_model(run_dir, plan, ["sft-inf"])
    asked = [encode(record.turns, model.tokenizer, 96) for record in heldout_records()[:2]]

    def scores(adapter: str | None, factor: float = 1.0) -> np.ndarray:
        with model.active(adapter, factor):
            return np.concatenate([found.logprob[1:] for found in model.token_scores(asked)])

    base, whole, none, half = (
        scores(None),
        scores("sft-inf"),
        scores("sft-inf", 0.0),
        scores("sft-inf", 0.5),
    )
    assert none == pytest.approx(base, abs=1e-5)
    assert np.abs(half - base).max() > 1e-3 < np.abs(half - whole).max()
    assert scores("sft-inf") == pytest.approx(whole, abs=0)  # the scale is put back


def test_items_carry_their_kind_and_what_was_cut(evaluated: tuple[RunDir, Plan]) -> None:
    run_dir, _ = evaluated
    measured = Measured.read(run_dir, "evaluate/base.json")
    assert {item.groups for item in measured.items["clinic_choice"]} == {
        ("form: en", "language: not Chinese")
    }
    assert all(item.length > 20 and item.cut == 0 for item in measured.items["clinic_choice"])
    (task,) = measured.quality.tasks
    assert (task.left_out, task.cut, measured.quality.heldout_cut) == (0, 0, 0)


FILE_ROWS = {
    "medqa_us_file": {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 1},
    "medmcqa_file": {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "Dental"},
    "mmlu_medical_file": {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 3},
    "cmexam_file": {"question": "哪一个？", "choices": ["甲", "乙", "丙", "丁", "戊"], "answer": 4},
    "pubmedqa_file": {"question": "Is it?", "context": "It was.", "answer": "maybe"},
}


def test_every_file_task_reads_its_own_rows_and_its_chance_is_known(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    from dpaudit import content
    from dpaudit.models import harness
    from dpaudit.models.hf_model import HFModel

    known = content.listing("suites/tasks")
    assert set(known) == {*FILE_ROWS, "clinic_choice", "free_answers_file", "refusals_file"}
    files = {}
    for name, row in FILE_ROWS.items():
        files[name] = tmp_path / f"{name}.jsonl"
        rows = [row | {"id": f"{name}/{n}"} for n in range(3)]
        if name == "cmexam_file":  # four choices or five in one file
            rows[0] = rows[0] | {"choices": row["choices"][:4], "answer": 0}
        files[name].write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    specs = {name: content.load_yaml(known[name]) for name in FILE_ROWS}
    tasks = harness.load_tasks(specs, files, tmp_path / "cache")
    lm = harness.harness_model(HFModel.load(str(toy_model_dir)), 8)
    for name, task in tasks.items():
        answers = harness.answer(lm, name, task, benchmarks.asking(Evaluation()))
        assert [item.id for item in answers.items] == [f"{name}/{n}" for n in range(3)]
        assert answers.chance == (
            2 / 3 if name == "cmexam_file" else 1.0
        )  # the commonest answer is always right here


def test_a_tokenizer_without_chat_template_gets_the_prompt_of_training(toy_model_dir: Path) -> None:
    from dpaudit.models import harness
    from dpaudit.models.encode import render
    from dpaudit.models.hf_model import HFModel

    model = HFModel.load(str(toy_model_dir))
    model.tokenizer.chat_template = None
    lm = harness.harness_model(model, 8)
    prompt = lm.apply_chat_template([{"role": "user", "content": "Why?"}], add_generation_prompt=True)
    assert prompt == render((Turn("user", "Why?"),), model.tokenizer, prompt=True)


WITHOUT_ITEMS = [
    (Task("clinic_choice"), "data: expected the file that holds its items, got no value"),
    (Task("clinic_choice", "nowhere.jsonl"), "data: expected a file with the items of clinic_choice"),
]


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        *WITHOUT_ITEMS,
        (Task("medqa_4options", "rows.jsonl"), "a task with data of its own"),
    ],
)
def test_a_task_that_cannot_run_is_refused_before_training(task: Task, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        benchmarks.check_tasks([task])
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tasks_that_can_run_are_not_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"context": "c", "question": "q", "answer": "yes"}\n')
    tasks = (
        Task("clinic_choice", "builtin:clinic"),
        Task("pubmedqa_file", str(rows)),
        Task("medqa_4options"),
    )
    benchmarks.check_tasks(tasks)


def test_copies_of_a_question_are_one_draw() -> None:
    """Whatever their ids, the order of their choices, and the field that their task names."""

    def sample(question: str, condition: str = "") -> dict:
        return {"question": question, "condition": condition}

    asked = [sample("Which drug?"), sample("What dose?"), sample(" which DRUG"), sample("What else?")]
    assert items.clusters_of([items.shared(one, "", None) for one in asked]) == [0, 1, 0, 2]
    named = [sample("a b", "x"), sample("c d", "y"), sample("c d", "x"), sample("e f", "z")]
    assert items.clusters_of([items.shared(one, "", ["condition"]) for one in named]) == [0, 0, 0, 1]


def test_what_another_version_measured_is_measured_again(
    evaluated: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    run_dir, plan = evaluated
    shutil.copytree(run_dir.path, tmp_path / "run")
    copied = RunDir(tmp_path / "run")
    old = copied.read_json("evaluate/base.json") | {"format": "quality/1"}
    fabricate.rewrite(copied, "evaluate/base.json", old)
    evaluate.run(copied, plan, QUIET)
    assert copied.read_json("evaluate/base.json")["format"] == Measured.FORMAT


def test_the_leaderboards_names_are_known() -> None:
    tasks = loading.load("suites/medical-core.yaml").evaluation.tasks
    assert len(tasks) == 9
    benchmarks.check_tasks(tasks)


def test_worked_examples_and_template_are_as_asked_and_other_prompts_are_not_compared(
    toy_model_dir: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    prompts = {}
    for name, asked in {"usual": {}, "shots": {"fewshot": 2}, "bare": {"chat_template": False}}.items():
        made = make_run(tmp_path / name, toy_model_dir, {}, (Task("clinic_choice", "builtin:clinic"),))
        run_dir, plan = made
        evaluation = replace(plan.suite.evaluation, **asked)
        plan = replace(plan, suite=replace(plan.suite, evaluation=evaluation))
        files = benchmarks.write_tasks(run_dir, plan, QUIET)
        model = evaluate.load_model(run_dir, plan, ["base"])
        spec = {"clinic_choice": TasksAsked.read(run_dir, benchmarks.TASKS).tasks["clinic_choice"].config}
        task = harness.load_tasks(spec, files, tmp_path / name)["clinic_choice"]
        lm = harness.harness_model(model, 8)
        prompts[name] = harness.answer(lm, "clinic_choice", task, benchmarks.asking(evaluation)).items
    assert len({items[0].prompt for items in prompts.values()}) == 3
    with pytest.raises(UsageError, match="items of clinic_choice"):
        quality.same_items("clinic_choice", prompts["usual"], prompts["shots"])
    with pytest.raises(UsageError, match=r"evaluation\.fewshot: expected at most 9, .* got 12"):
        harness.answer(lm, "clinic_choice", task, replace(benchmarks.asking(evaluation), fewshot=12))


def test_settings_typed_beside_a_task_are_of_that_task_alone(
    toy_model_dir: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """What was measured otherwise before is neither asked again nor put out of the page."""
    file = tmp_path / "rows.jsonl"
    rows = ({"id": str(n), "question": f"Is it {n}?", "context": f"{n}.", "answer": "no"} for n in range(4))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    clinic = Task("clinic_choice", "builtin:clinic")
    run_dir, plan = make_run(tmp_path, toy_model_dir, {"sft-inf": adapters["sft-inf"]}, (clinic,))
    evaluate.run(run_dir, plan, QUIET)
    before = Measured.read(run_dir, "evaluate/sft-inf.json")
    typed = ["evaluation.fewshot=1", "evaluation.limit=2"]
    plan = command_line.evaluation(run_dir, plan, [f"pubmedqa_file={file}"], typed)
    evaluate.run(run_dir, plan, QUIET)
    after = Measured.read(run_dir, "evaluate/sft-inf.json")
    assert after.items["clinic_choice"] == before.items["clinic_choice"]
    assert [len(found) for found in after.items.values()] == [12, 2]
    hows = {name: asked.how for name, asked in TasksAsked.read(run_dir, benchmarks.TASKS).tasks.items()}
    assert (hows["clinic_choice"].fewshot, hows["pubmedqa_file"].fewshot) == (None, 1)
    assert [one.times for one in tries.counted(tries.of(run_dir))] == [1, 1]
    with pytest.raises(UsageError, match=r"evaluation\.tasks: expected --task or this list, got both"):
        command_line.evaluation(run_dir, plan, [f"pubmedqa_file={file}"], ["evaluation.tasks=[]"])
    entries = declarations.entries(run_dir, "evaluation")
    for words in (
        ([f"pubmedqa_file={file}"], []),
        ([], [f"evaluation.tasks=[{{name: pubmedqa_file, data: {file}}}]"]),
    ):
        with pytest.raises(UsageError, match="at most 3, the worked examples that pubmedqa_file has"):
            command_line.evaluation(run_dir, plan, words[0], [*words[1], "evaluation.fewshot=4"])
    assert declarations.entries(run_dir, "evaluation") == entries  # a refused request leaves none


def later(run_dir: RunDir, plan: Plan, **changed: object) -> Plan:
    """The plan with settings of `evaluation` that a command adds to the finished run."""
    asked = plan.with_settings({f"evaluation.{key}": value for key, value in changed.items()}, "typed")
    declarations.add(run_dir, "evaluation", asked.settings("evaluation"), "command")
    return declarations.plan_of(run_dir)


def test_what_was_measured_stays_whatever_is_asked_for_later(
    toy_model_dir: Path, adapters: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another list of tasks, a smaller limit and other prompts: nothing is dropped, and all of it is told."""
    file = tmp_path / "rows.jsonl"
    long = {"question": "Is it? " * 400, "context": "It was.", "answer": "maybe"}
    file.write_text("".join(json.dumps(long | {"id": str(n), "context": f"{n}"}) + "\n" for n in range(3)))
    clinic, pubmed = Task("clinic_choice", "builtin:clinic"), Task("pubmedqa_file", str(file))
    run_dir, plan = make_run(tmp_path, toy_model_dir, {"sft-inf": adapters["sft-inf"]}, (clinic, pubmed))

    def asked(plan: Plan) -> tuple[dict[str, int], str]:
        evaluate.run(run_dir, plan, Progress())
        figures = Measured.read(run_dir, "evaluate/sft-inf.json").quality.tasks
        return {row.task: row.items for row in figures}, capsys.readouterr().err

    whole = {"clinic_choice": 12, "pubmedqa_file": 3}
    found, told = asked(plan)
    assert found == whole and "kept" not in told and "measured 2" not in told
    assert "note: not measured, since not trained yet: sft-eps8, sft-eps1" in told
    assert "warning: clinic_choice: 1 of 12 items stand in the training text" in told
    assert "note: pubmedqa_file: 0 of 3 items stand in the training text; what the base model was" in told
    assert "pubmedqa_file: the beginning of 3 of 3 prompts was cut off" in told
    compared = Comparisons.read(run_dir, evaluate.SUMMARY).pairs
    assert {p.margin.reason for p in compared if p.margin and p.task == "pubmedqa_file"} == {"prompts cut"}
    plan = later(run_dir, plan, tasks=[{"name": "clinic_choice", "data": "builtin:clinic"}], limit=5)
    found, told = asked(plan)
    assert found == whole and {p.task for p in Comparisons.read(run_dir, evaluate.SUMMARY).pairs} >= set(
        whole
    )
    assert "kept: pubmedqa_file, which was measured before" in told
    assert "kept: clinic_choice was asked with all of its items, more than the limit of 5" in told
    plan = later(run_dir, plan, chat_template=False, margin=0.02)
    found, told = asked(plan)
    assert found == {"clinic_choice": 6, "pubmedqa_file": 3}  # two conditions
    assert "clinic_choice was measured 2 times" in told and "pubmedqa_file was" not in told
    asked(plan)
    tried = {one.task: one for one in tries.counted(tries.of(run_dir))}
    assert [one.times for one in tried.values()] == [2, 1]
    (before,) = tried["clinic_choice"].earlier
    assert before.how.chat_template and before.figures["sft-inf"].items == 12
    file.unlink()
    found, told = asked(plan)
    assert "skipped: evaluation.tasks: pubmedqa_file" in told and found["pubmedqa_file"] == 3
    fabricated = report.Reading(run_dir)
    assert report._margins(fabricated) == (0.05,)


def test_a_task_without_items_is_left_out_and_the_rest_is_measured(
    toy_model_dir: Path, adapters: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Own data bring no items of the clinic: no adapter need be trained again for that."""
    tasks = (Task("clinic_choice", "builtin:clinic"), Task("pubmedqa_file", str(tmp_path / "later.jsonl")))
    run_dir, plan = make_run(tmp_path, toy_model_dir, {"sft-inf": adapters["sft-inf"]}, tasks)
    run_dir.write_lines("corpus/choices.jsonl", [])
    evaluate.run(run_dir, plan, Progress())
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert len(told) == 2 and "made with builtin:clinic, got a run on other data" in told[0]
    assert "later.jsonl" in told[1]
    found = run_dir.read_json("evaluate/sft-inf.json")
    assert found["quality"]["tasks"] == [] and found["quality"]["bits_per_byte"]["value"] > 0
    assert [row["task"] for row in run_dir.read_json(benchmarks.TASKS)["skipped"]] == [
        "clinic_choice",
        "pubmedqa_file",
    ]
    row = {"id": "a", "question": "Is it?", "context": "It was.", "answer": "maybe"}
    (tmp_path / "later.jsonl").write_text(json.dumps(row) + "\n")
    evaluate.run(run_dir, plan, QUIET)
    tasks = Measured.read(run_dir, "evaluate/sft-inf.json").quality.tasks
    assert [task.task for task in tasks] == ["pubmedqa_file"]


def test_items_of_another_benchmark_are_refused(
    toy_model_dir: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    task = Task("pubmedqa_file", "builtin:clinic")
    run_dir, plan = make_run(tmp_path, toy_model_dir, {"sft-inf": adapters["sft-inf"]}, (task,))
    with pytest.raises(UsageError, match=r"choices\.jsonl: expected a benchmark whose rows"):
        evaluate.run(run_dir, plan, QUIET)


def test_without_a_trained_arm_the_command_to_type_is_named(toy_model_dir: Path, tmp_path: Path) -> None:
    run_dir, plan = make_run(tmp_path, toy_model_dir, {}, ())
    with pytest.raises(UsageError, match="dpaudit train"):
        evaluate.run(run_dir, plan, QUIET)
