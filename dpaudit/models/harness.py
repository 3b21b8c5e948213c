"""Benchmarks through the lm-eval package: tasks from configurations, answers as items of numbers."""

import contextlib
import difflib
import functools
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dpaudit.data.corpus import Role, Turn
from dpaudit.data.near_duplicates import words_of
from dpaudit.errors import UsageError
from dpaudit.findings.quality import Asking, Item
from dpaudit.models.encode import render
from dpaudit.models.hf_model import HFModel
from dpaudit.storage import disk
from dpaudit.system import egress

SEED = 1234  # of worked examples, as in lm-eval


@dataclass(frozen=True)
class Answers:
    """How one model answered one task. `chance` is the score of guessing, or of always giving the commonest
    answer.
    """

    items: tuple[Item, ...]
    chance: float
    left_out: int  # items of the task that were not asked


def load_tasks(
    specs: Mapping[str, dict[str, Any] | None], data: Mapping[str, Path], cache: Path
) -> dict[str, Any]:
    """Name -> lm-eval task for `specs`: name -> configuration, or None for a task that lm-eval itself knows.

    `data` names the JSONL file of each configured task; `cache` is a folder for the read data sets. Raises
    UsageError for a name that lm-eval does not know, and for a file whose rows do not fit the configuration.
    """
    with _quiet():
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_defaults=any(config is None for config in specs.values()))
        _check_known(manager, [name for name, config in specs.items() if config is None])
        tasks: dict[str, Any] = {}
        for name, config in specs.items():
            if config is None:
                tasks.update(_load_known(manager, name, cache)["tasks"])
            else:
                tasks.update(
                    _load(manager, _with_data(config, data[name], cache), str(data[name]), cache)["tasks"]
                )
    for name, task in tasks.items():
        if task.OUTPUT_TYPE != "multiple_choice":
            raise UsageError(
                f"evaluation.tasks: {name}",
                "a multiple-choice task",
                f"output_type {task.OUTPUT_TYPE}",
                "name another task",
            )
    return tasks


def check_known(names: Sequence[str]) -> None:
    """Raises UsageError for a task that lm-eval does not know."""
    with _quiet():
        from lm_eval.tasks import TaskManager

        _check_known(TaskManager(), names)


def _check_known(manager: Any, names: Sequence[str]) -> None:
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, 3)
            alike = f"; names like it: {', '.join(near)}" if near else ""
            raise UsageError(
                f"evaluation.tasks: {name}",
                "a YAML of suites/tasks/ or a task of lm-eval",
                "an unknown name",
                f"see `lm-eval ls tasks`{alike}",
            )


def harness_model(model: HFModel, batch: int) -> Any:
    """The lm-eval view of a loaded model; the adapter that is active during the call answers."""
    with _quiet():
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=batch, add_bos_token=False)
        lm.loglikelihood = functools.partial(lm.loglikelihood, disable_tqdm=True)
        lm.apply_chat_template = functools.partial(_render, model.tokenizer)
    return lm


def answer(lm: Any, name: str, task: Any, how: Asking) -> Answers:
    """How the model answered a task's items: prompts in the chat template that training used, or as lm-eval
    asks a plain model. Worked examples are drawn with a fixed seed, the same for all models.
    """
    if how.fewshot is not None:
        _check_fewshot(name, task, how.fewshot)
        task.set_config("num_fewshot", how.fewshot)
    task.set_fewshot_seed(SEED)
    with _quiet():
        # `simple_evaluate` does this and adds 2 s of environment report to every call
        from lm_eval.evaluator import evaluate

        results = evaluate(
            lm,
            {"tasks": {name: task}},
            limit=how.limit,
            bootstrap_iters=0,
            apply_chat_template=how.chat_template,
            fewshot_as_multiturn=how.chat_template,
        )
    return _answers(results["samples"][name], task, functools.partial(_is_cut, lm))


def _check_fewshot(name: str, task: Any, fewshot: int) -> None:
    """Raises UsageError for more worked examples than the task has, the item itself aside."""
    there = len(list(task.fewshot_docs())) - (not task.has_training_docs() and not task.has_validation_docs())
    if fewshot > there:
        raise UsageError(
            "evaluation.fewshot",
            f"at most {there:,}, the worked examples that {name} has",
            f"{fewshot:,}",
            f"--set evaluation.fewshot={max(0, min(there, 5))}",
        )


def texts_of(task: Any, limit: int | None) -> dict[str, tuple[str, ...]]:
    """The texts of a task's first `limit` items by their ids: the question alone where the item names one,
    and the whole prompt with the right answer.
    """
    texts: dict[str, tuple[str, ...]] = {}
    for number, doc in enumerate(list(task.eval_docs)[:limit]):
        prompt, target = str(task.doc_to_text(doc)), task.doc_to_target(doc)
        choices = task.doc_to_choice(doc) if task.OUTPUT_TYPE == "multiple_choice" else []
        right = choices[target] if isinstance(target, int) and choices else target
        alone = doc.get("question")
        whole = f"{prompt} {right}"
        texts[_id(doc, number)] = (alone, whole) if isinstance(alone, str) else (whole,)
    return texts


def _id(doc: Mapping[str, Any], number: int) -> str:
    return str(doc.get("id", number))


def _with_data(config: dict[str, Any], file: Path, cache: Path) -> dict[str, Any]:
    files = {config.get("test_split", "test"): str(file.resolve())}
    return {**config, "dataset_kwargs": {"data_files": files, "cache_dir": str(cache)}}


def _load_known(manager: Any, name: str, cache: Path) -> Any:
    """A task of lm-eval's own, whose items are here, or come from the hub if `eval --task` named it."""
    try:
        return _load(manager, name, name, cache)
    except UsageError:
        with egress.asking(name, "dpaudit eval --task"):
            return _load(manager, name, name, cache)


def _load(manager: Any, spec: str | dict[str, Any], where: str, cache: Path) -> Any:
    import datasets
    import jinja2

    try:
        with disk.room(cache):
            return manager.load([spec])
    except (
        datasets.exceptions.DatasetsError,
        ConnectionError,
        jinja2.TemplateError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise UsageError(
            where,
            "a benchmark whose rows have the fields that its task names",
            f"{type(error).__name__}: {reason:.100}",
            "compare the file with the YAML in suites/tasks/",
        ) from error


def _answers(
    samples: Sequence[dict[str, Any]], task: Any, is_cut: Callable[[str, Sequence[str]], bool]
) -> Answers:
    metadata = task.config.metadata or {}
    field, kinds = metadata.get("cluster"), metadata.get("groups", [])
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    clusters = _clusters([_shared(sample, field) for sample in samples])
    items, right, guess = [], Counter[str](), 0.0
    for sample, cluster in zip(samples, clusters, strict=True):
        doc, choices = sample["doc"], [arguments[1].strip() for arguments in sample["arguments"]]
        logprobs = [float(response[0]) for response in sample["filtered_resps"]]
        gold = _gold(sample["target"], choices)
        prompt = str(sample["arguments"][0][0])
        log_odds = logprobs[gold] - max(score for index, score in enumerate(logprobs) if index != gold)
        identity = _id(doc, sample["doc_id"])
        items.append(
            Item(
                identity,
                int(sample.get("acc", log_odds > 0)),
                log_odds,
                # a number and not the field's own text, which may be a whole passage
                f"{field or 'question'}-{cluster}",
                _brier(logprobs, gold),
                tuple(logprobs),
                hashlib.sha256(prompt.encode()).hexdigest()[:16],
                (*_named(doc, kinds), f"language: {_language(str(task.doc_to_text(doc)))}"),
                len(prompt),
                int(is_cut(prompt, [arguments[1] for arguments in sample["arguments"]])),
            )
        )
        right[choices[gold]] += 1
        guess += 1 / len(choices)
    left_out = len(task.eval_docs) - len(items)
    return Answers(tuple(items), max(guess, max(right.values())) / len(items), left_out)


def _shared(sample: Mapping[str, Any], field: str | None) -> list[str]:
    """What makes an item one draw with others: the field that its task names, and the words of its
    question.
    """
    asked = sample["doc"].get("question")
    text = asked if isinstance(asked, str) else str(sample["arguments"][0][0])
    return [f"asked: {' '.join(words_of(text))}", *([f"of: {sample['doc'][field]}"] if field else [])]


def _clusters(shared: Sequence[Sequence[str]]) -> list[int]:
    """A number for each item, the same for all that something shared joins, in order of their first item."""
    parent = list(range(len(shared)))

    def root(at: int) -> int:
        while parent[at] != at:
            at = parent[at]
        return at

    first: dict[str, int] = {}
    for at, keys in enumerate(shared):
        for key in keys:
            one, other = sorted((root(first.setdefault(key, at)), root(at)))
            parent[other] = one
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(at), len(numbers)) for at in range(len(shared))]


def _is_cut(lm: Any, prompt: str, choices: Sequence[str]) -> bool:
    """Whether lm-eval drops the beginning of the prompt, since the model's window does not hold it all."""
    longest = max(len(lm.tok_encode(choice)) for choice in choices)
    return bool(len(lm.tok_encode(prompt)) + longest > lm.max_length)


def _named(doc: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    return [f"{kind}: {doc[kind]!s:.40}" for kind in kinds if doc.get(kind)]


def _language(text: str) -> str:
    return "Chinese" if any("\u4e00" <= character <= "\u9fff" for character in text) else "other"


def _brier(logprobs: Sequence[float], gold: int) -> float:
    """Brier 1950: of the choices' probabilities among each other."""
    highest = max(logprobs)
    weights = [math.exp(logprob - highest) for logprob in logprobs]
    shares = [weight / sum(weights) for weight in weights]
    return sum((share - (index == gold)) ** 2 for index, share in enumerate(shares))


def _gold(target: Any, choices: Sequence[str]) -> int:
    first = target[0] if isinstance(target, list) else target
    return first if isinstance(first, int) else choices.index(str(first).strip())


def _render(tokenizer: Any, history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """The prompt as in training: the same bounds and day, system text in the same place."""
    turns = tuple(Turn(cast(Role, message["role"]), message["content"]) for message in history)
    if add_generation_prompt:
        return render(turns, tokenizer, prompt=True)
    return render(turns[:-1], tokenizer, prompt=True) + str(turns[-1].text)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No log lines and no bars of lm-eval and datasets inside the block: the stage shows progress."""
    import datasets
    import lm_eval.api.task as task_module

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    bars, bar = datasets.utils.are_progress_bars_disabled(), task_module.tqdm
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    task_module.tqdm = lambda docs, **_: docs
    try:
        yield
    finally:
        task_module.tqdm = bar
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
