"""What the arms answer to the prompts of stage judge: how long an answer may be, what is kept, and what is
known of prompts and answers beside the verdicts.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.findings.judgement import Accuracy, Example
from dpaudit.judging import examples, facts
from dpaudit.judging.comparing import Answered
from dpaudit.judging.quality import BASE
from dpaudit.models.decoding import Decoding
from dpaudit.stages import writing
from dpaudit.stages.contaminated import training_texts
from dpaudit.stages.integrity import weights
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import read_sealed_lines, write_sealed_lines
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging
from dpaudit.system.progress import Progress

ANSWERS = "judge/answers.jsonl"
CLINIC = "builtin:clinic"
FORMAT = "answers/3"
QUANTILE = 0.99  # of the lengths of public reference answers
TOKENS = 256  # of an answer where nobody said and no length may be looked at
NOT_PUBLIC = "the prompts are not declared public (judging.public)"

Row = dict[str, Any]
Prompts = dict[str, tuple[Turn, ...]]  # id of the first record that asks -> the turns before the answer


@dataclass(frozen=True)
class Limit:
    """How many tokens an answer may have, and why so many."""

    tokens: int
    source: str


def limit_of(run_dir: RunDir, plan: Plan) -> Limit:
    """As declared; else so many that no answer like the references of public prompts is cut, nor one of twice
    their length. Lengths of private answers are private data, which no adapter's epsilon covers, and are not
    looked at.
    """
    asked = (plan.suite.judging or Judging()).max_new_tokens
    if asked != "auto":
        return Limit(asked, "as the suite declares")
    references = list(references_of(heldout(run_dir)).values()) if plan.suite.has_public_prompts else []
    if not references:
        return Limit(TOKENS, "the default, since no length of a private answer is looked at")
    from dpaudit.models.tokenizers import tokenizer_of

    tokenizer = tokenizer_of(plan.suite.model)
    sizes = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in references]
    longest = int(np.quantile(sizes, QUANTILE, method="higher")) + 1  # with the token that ends it
    source = f"twice what {QUANTILE:.0%} of the reference answers of the public prompts take at most"
    return Limit(2 * longest, source)


def heldout(run_dir: RunDir) -> list[Record]:
    return [Record.from_json(row) for row in run_dir.read_lines("corpus/heldout.jsonl")]


def references_of(records: Iterable[Record]) -> dict[str, str]:
    """Record id -> its right answer: the last turn, or the chosen answer of a pair."""
    told = {record.id: record.chosen or (record.turns[-1].text if record.turns else "") for record in records}
    return {name: text for name, text in told.items() if text}


def answers(
    run_dir: RunDir,
    plan: Plan,
    names: Sequence[str],
    prompts: Prompts,
    limit: Limit,
    progress: Progress,
    is_offline: bool = False,
) -> dict[tuple[str, str], Row]:
    """(model, prompt id) -> its greedy answer. Those of an unchanged model are read back, the rest generated.

    Raises UsageError where one is missing and nothing may be generated.
    """
    sources = sources_of(run_dir, plan, names, limit)
    rows = kept_answers(run_dir, sources)
    pending = {
        name: new for name in names if (new := [prompt for prompt in prompts if (name, prompt) not in rows])
    }
    if pending and is_offline:
        raise _no_answers(run_dir, sum(map(len, pending.values())), len(names) * len(prompts))
    if pending:
        with progress.task("answering", sum(map(len, pending.values()))) as advance:
            writer = writing.of_run(run_dir, plan, list(pending), backend_of(plan))
            for name, new in pending.items():
                turns = [prompts[prompt] for prompt in new]
                for places, written in writer.write(
                    None if name == BASE else name, turns, Decoding(limit.tokens), 0, ()
                ):
                    for place, answer in zip(places, written, strict=True):
                        rows[name, new[place]] = {
                            "arm": name,
                            "prompt": new[place],
                            "answer": answer.text,
                            "cut": answer.is_cut,
                            "source": sources[name],
                        }
                    advance(len(places))
                write_sealed_lines(run_dir, ANSWERS, rows.values())
    return {(name, prompt): rows[name, prompt] for name in names for prompt in prompts}


def kept_answers(run_dir: RunDir, sources: Mapping[str, str]) -> dict[tuple[str, str], Row]:
    """(model, prompt id) -> the kept answer of a model as it is now."""
    kept = read_sealed_lines(run_dir, ANSWERS) if run_dir.file(ANSWERS).is_file() else []
    return {(row["arm"], row["prompt"]): row for row in kept if sources.get(row["arm"]) == row["source"]}


def sources_of(run_dir: RunDir, plan: Plan, names: Sequence[str], limit: Limit) -> dict[str, str]:
    """Model -> what its answers depend on, as one digest."""
    return {name: _source(run_dir, name, plan, limit.tokens) for name in names}


def backend_of(plan: Plan) -> str:
    """What writes the answers."""
    return (plan.suite.judging or Judging()).backend


def check_writer(run_dir: RunDir, plan: Plan, names: Sequence[str], limit: Limit) -> None:
    """Raises UsageError, before a judge is asked, for adapters that the backend cannot run."""
    writing.check(backend_of(plan), Decoding(limit.tokens), writing.adapters_of(run_dir, names))


def _source(run_dir: RunDir, name: str, plan: Plan, max_new_tokens: int) -> str:
    files = ["plan.json", "corpus/manifest.json", *([] if name == BASE else [weights_of(name)])]
    base = weights.of_base(plan.suite.model.base)
    made_from = [FORMAT, run_dir.digests(files), base, max_new_tokens, backend_of(plan)]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]


def _no_answers(run_dir: RunDir, absent: int, wanted: int) -> UsageError:
    return UsageError(
        str(run_dir.file(ANSWERS)),
        f"{wanted} answers of the models as they are now",
        f"{absent} too few",
        f"type `{of_run('dpaudit judge', run_dir.name)}`, which makes them",
    )


# ---- what is known of them


def known_of(
    run_dir: RunDir,
    plan: Plan,
    prompts: Prompts,
    rows: Mapping[tuple[str, str], Row],
    accuracy: Accuracy | None,
) -> Answered:
    """Facts, references, texts and cut answers of the prompts."""
    is_clinic = plan.suite.data.source == CLINIC
    references = references_of(heldout(run_dir))
    texts: dict[str, dict[str, str]] = {}
    cut: dict[str, list[bool]] = {}
    for (name, prompt), row in rows.items():
        texts.setdefault(name, {})[prompt] = row["answer"]
        cut.setdefault(name, []).append(row["cut"])
    return Answered(
        facts=facts.of_clinic(prompts) if is_clinic else facts.of_texts(prompts),
        texts=texts,
        references={prompt: references[prompt] for prompt in prompts if prompt in references},
        cut={name: sum(said) / len(said) for name, said in cut.items()},
        drug_names=facts.drugs_of_clinic() if is_clinic else (),
        accuracy=accuracy,
    )


def examples_of(run_dir: RunDir, plan: Plan, prompts: Prompts, known: Answered) -> tuple[Example, ...]:
    """Answers side by side where the prompts are public, else none. The clinic's training text is public."""
    if not plan.suite.has_public_prompts:
        return ()
    secrets = [
        secret
        for row in run_dir.iterate_lines("corpus/candidates.jsonl")
        if row["kind"] == "canary"
        for secret in (row["secret"], row.get("other"))
        if secret
    ]
    training = () if plan.suite.data.source == CLINIC else training_texts(run_dir)
    return examples.side_by_side(prompts, known, secrets, training)
