"""Benchmarks through the lm-eval package: tasks from configurations, answers as items of numbers."""

import contextlib
import functools
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from jinja2 import UndefinedError

from dpaudit.data.corpus import Role, Turn
from dpaudit.errors import PartialError, UsageError
from dpaudit.findings.quality import Asking, Item
from dpaudit.judging.measures import Measured
from dpaudit.models import border, fewshot, hub, known_tasks, measured, remembered
from dpaudit.models.encode import render
from dpaudit.models.hf_model import HFModel
from dpaudit.models.items import SEED, AskedItem, Sample, asked_items, drawn
from dpaudit.storage import disk
from dpaudit.storage.answer_log import AnswerLog
from dpaudit.system import egress, interrupts

MISFITS = (LookupError, UndefinedError)  # what lm-eval raises where a row lacks a field that the task reads
OUTPUTS = ("multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until")
MOST_TOKENS = 256  # of an answer, where neither a task nor lm-eval's model says otherwise


@dataclass(frozen=True)
class Answers:
    """How one model answered one task. `chance` is the score of guessing, or of always giving the commonest
    answer.
    """

    items: tuple[Item, ...]  # empty for a task without right and wrong
    chance: float
    left_out: int  # items of the task that were not asked
    asked: int
    cut: int
    scores: tuple[Measured, ...] = ()  # by every measure beside right and wrong


def load_tasks(
    specs: Mapping[str, dict[str, Any] | None],
    data: Mapping[str, Path],
    cache: Path,
    sources: Mapping[str, Path] = MappingProxyType({}),
    ours: Collection[str] = (),
    is_training_next: bool = False,
) -> dict[str, Any]:
    """Name -> lm-eval task for `specs`: name -> configuration, or None for a task that lm-eval itself knows.

    `data` names the JSONL file of each configured task, and `sources` the file that it was made from;
    `cache` is a folder for the read data sets; `ours` are tasks whose items come from a file;
    `is_training_next` decides which way out an error names. Raises UsageError for a name that lm-eval does
    not know, for items that are not here and may not be fetched, and for rows that do not fit their task;
    PartialError where the hub does not answer.
    """
    own = {name: known_tasks.file_of(name, ours) for name, config in specs.items() if config is None}
    tasks: dict[str, Any] = {}
    with _quiet():
        for name, config in specs.items():
            if config is None:
                loaded = _load_known(name, own[name], cache, ours, is_training_next)
            else:
                where = str(sources.get(name, data[name]))
                loaded = _load(_with_data(config, data[name], cache), where, cache)
            tasks[name] = _single(name, loaded)
    for name, task in tasks.items():
        _check(name, task)
    return tasks


def _single(name: str, loaded: Mapping[str, Any]) -> Any:
    """The task of that name. Raises UsageError for a group, whose tasks have names of their own."""
    if name in loaded:
        return loaded[name]
    raise known_tasks.several(name, list(loaded))


def _check(name: str, task: Any) -> None:
    """Raises UsageError for a task that cannot be asked here; keeps a perplexity beyond the largest number
    from ending the command.
    """
    where, way = f"evaluation.tasks: {name}", "name another task"
    if task.OUTPUT_TYPE not in OUTPUTS:
        raise UsageError(where, f"an output_type of {', '.join(OUTPUTS)}", str(task.OUTPUT_TYPE), way)
    if getattr(task, "UNSAFE_CODE", False):
        raise UsageError(where, "a task that runs no code of the model", "one that does", way)
    metrics = getattr(task, "_metric_fn_list", {})
    if task.config.process_results is None and None in metrics.values():
        lost = next(metric for metric, function in metrics.items() if function is None)
        raise UsageError(
            f"{where}: metric_list", "metrics that lm-eval brings", f"the metric {lost!s:.40}", way
        )
    aggregations = task.aggregation()
    for metric, aggregate in aggregations.items():
        if callable(aggregate):
            aggregations[metric] = _or_infinite(aggregate)


def _or_infinite(aggregate: Callable[[Any], float]) -> Callable[[Any], float]:
    @functools.wraps(aggregate)
    def wrapped(scores: Any) -> float:
        try:
            return aggregate(scores)
        except OverflowError:
            return math.inf

    return wrapped


def harness_model(model: HFModel, batch: int) -> Any:
    """The lm-eval view of a loaded model; the adapter that is active during the call answers."""
    with _quiet():
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=batch, add_bos_token=False)
        for kind in remembered.KINDS:
            setattr(lm, kind, functools.partial(getattr(lm, kind), disable_tqdm=True))
        lm._loglikelihood_tokens = _without_bar(lm._loglikelihood_tokens)
        lm.apply_chat_template = functools.partial(_render, model.tokenizer)
    return lm


def _without_bar(score: Callable[..., Any]) -> Callable[..., Any]:
    """lm-eval's scoring of texts window by window shows a bar whatever it is told."""
    return lambda requests, **options: score(requests, **{**options, "disable_tqdm": True})


def answer(lm: Any, name: str, task: Any, how: Asking, log: AnswerLog | None = None) -> Answers:
    """How the model answered a task's items: prompts in the chat template that training used, or as lm-eval
    asks a plain model. Worked examples and sampled answers are drawn with a fixed seed, the same for all
    models. What `log` holds already is not asked again, and what is asked is kept there as it comes.
    """
    with _quiet():
        fewshot.set_examples(name, task, how.fewshot)
    places = drawn(task, how.limit)
    check_answers(name, task.OUTPUT_TYPE, task.config.generation_kwargs, lm.max_length, lm.max_gen_toks)
    with _quiet(), _seeded(), remembered.answers(lm, log):
        # `simple_evaluate` does this and adds 2 s of environment report to every call
        from lm_eval.evaluator import evaluate

        results = evaluate(
            lm,
            {"tasks": {name: task}},
            samples=None if places is None else {name: places},
            bootstrap_iters=0,
            apply_chat_template=how.chat_template,
            fewshot_as_multiturn=how.chat_template,
        )
    by_filter: dict[str, list[Sample]] = {}
    for sample in sorted(results["samples"][name], key=lambda sample: int(sample["doc_id"])):
        by_filter.setdefault(str(sample["filter"]), []).append(sample)
    return _answers(by_filter, results["results"][name], task, functools.partial(_is_cut, lm))


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Inside the block answers that are sampled are the same in every process."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        yield


def check_answers(
    name: str, output: str, settings: Mapping[str, Any] | None, window: int, most: int = MOST_TOKENS
) -> None:
    """Raises UsageError where an answer may be as long as the model's whole window; `settings` are how a task
    has answers written, `most` tokens where they do not say.
    """
    longest = _answer_tokens(settings, most) if output == "generate_until" else 0
    if longest >= window:
        raise UsageError(
            f"evaluation.tasks: {name}",
            f"answers shorter than the model's window of {window:,} tokens",
            f"up to {longest:,} tokens",
            "name a model with a larger window, or a task with another max_gen_toks",
        )


def _with_data(config: dict[str, Any], file: Path, cache: Path) -> dict[str, Any]:
    files = {config.get("test_split", "test"): str(file.resolve())}
    return {**config, "dataset_kwargs": {"data_files": files, "cache_dir": str(cache)}}


def _load_known(
    name: str, file: Path, cache: Path, ours: Collection[str], is_training_next: bool
) -> Mapping[str, Any]:
    """A task of lm-eval's own, whose items are here, or come from the hub if that was allowed."""
    try:
        return _load(str(file), name, cache)
    except UsageError as error:
        if isinstance(error.__cause__, MISFITS):
            raise
        if not egress.is_allowed(name):
            raise _not_here(name, is_training_next) from error
    mine = next(iter(known_tasks.like(name, ours)), "NAME")
    from_file = f"{{name: {mine}, data: FILE}} in the suite" if is_training_next else f"--task {mine}=FILE"
    with egress.asking(name, "dpaudit eval --task"):
        hub.require_answer(f"{name}: its items come from a hub", from_file)
        return _load(str(file), name, cache)


def _not_here(name: str, is_training_next: bool) -> UsageError:
    later = f"dpaudit eval --task {name}"
    way = (
        f"to fetch them now, add --allow-egress {hub.host()}; or train without this task (--set "
        f"evaluation.tasks=...) and measure it later: {later}"
    )
    return UsageError(
        f"evaluation.tasks: {name}",
        "its items on this machine",
        "none, and a name in a suite asks no hub",
        way if is_training_next else f"to fetch them, type {later}",
    )


def _load(spec: str | dict[str, Any], where: str, cache: Path) -> Mapping[str, Any]:
    """The tasks of a configuration, or of a YAML file of lm-eval's."""
    from lm_eval.tasks import TaskManager

    try:
        with disk.room(cache):
            return cast(Mapping[str, Any], TaskManager(include_defaults=False).load([spec])["tasks"])
    except (UsageError, PartialError):
        raise
    except Exception as error:  # whatever a library of many authors raises
        if interrupts.came():
            raise KeyboardInterrupt from error
        raise _unloaded(spec, where, error) from error


def _unloaded(spec: str | dict[str, Any], where: str, error: Exception) -> UsageError:
    rows = "a benchmark whose rows have the fields that its task names"
    if isinstance(spec, dict):
        return UsageError(where, rows, border.named(error), "compare the file with the YAML in suites/tasks/")
    is_misfit = isinstance(error, MISFITS)
    expected = rows if is_misfit else "items within reach"
    return UsageError(f"evaluation.tasks: {where}", expected, border.named(error), "name another task")


def _answers(
    by_filter: Mapping[str, Sequence[Sample]],
    figures: Mapping[str, Any],
    task: Any,
    is_cut: Callable[[Any, Sample], bool],
) -> Answers:
    samples = next(iter(by_filter.values()))
    asked = asked_items(samples, task, is_cut)
    left_out = len(task.eval_docs) - len(asked)
    if task.OUTPUT_TYPE == "multiple_choice":
        return Answers(*_choices(samples, asked), left_out, len(asked), _cut(asked))
    right = measured.right_metric(task)
    items, chance = measured.items_of(samples, asked, right) if right else ((), 0.0)
    scores = measured.measures_of(by_filter, figures, asked, task)
    return Answers(items, chance, left_out, len(asked), _cut(asked), scores)


def _cut(asked: Sequence[AskedItem]) -> int:
    return sum(item.cut for item in asked)


def _choices(samples: Sequence[Sample], asked: Sequence[AskedItem]) -> tuple[tuple[Item, ...], float]:
    """Items of multiple choice, and the score of guessing or of always giving the commonest answer."""
    items, right, guess = [], Counter[str](), 0.0
    for sample, item in zip(samples, asked, strict=True):
        choices = [arguments[1].strip() for arguments in sample["arguments"]]
        logprobs = [float(response[0]) for response in sample["filtered_resps"]]
        gold = _gold(sample["target"], choices)
        log_odds = logprobs[gold] - max(score for index, score in enumerate(logprobs) if index != gold)
        items.append(
            Item(
                item.id,
                int(sample.get("acc", log_odds > 0)),
                log_odds,
                item.cluster,
                _brier(logprobs, gold),
                tuple(logprobs),
                item.prompt,
                item.groups,
                item.length,
                item.cut,
            )
        )
        right[choices[gold]] += 1
        guess += 1 / len(choices)
    return tuple(items), max(guess, max(right.values())) / len(items)


def _is_cut(lm: Any, task: Any, sample: Sample) -> bool:
    """Whether lm-eval drops the beginning of the prompt, since the model's window does not hold it all. A
    text that is scored as a whole is read window by window.
    """
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return False
    prompt, after = str(sample["arguments"][0][0]), [arguments[1] for arguments in sample["arguments"]]
    if task.OUTPUT_TYPE == "generate_until":
        longest = _answer_tokens(after[0], lm.max_gen_toks)
    else:
        longest = max(len(lm.tok_encode(choice)) for choice in after)
    return bool(len(lm.tok_encode(prompt)) + longest > lm.max_length)


def _answer_tokens(settings: Mapping[str, Any] | None, most: int) -> int:
    """How many tokens an answer may have."""
    from lm_eval.models.utils import normalize_gen_kwargs

    return int(normalize_gen_kwargs(dict(settings or {}), most)["max_gen_toks"])


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

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "huggingface_hub")]
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
