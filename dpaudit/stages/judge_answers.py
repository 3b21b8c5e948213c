"""What the arms answer to the prompts of stage judge: how long an answer may be, what is kept, and what is
known of prompts and answers beside the verdicts.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.findings.judgement import Accuracy, Example
from dpaudit.findings.quality import BASE
from dpaudit.judging import examples, facts
from dpaudit.judging.comparing import Answered
from dpaudit.models.decoding import Decoding
from dpaudit.stages import writing
from dpaudit.stages.contaminated import training_texts
from dpaudit.stages.integrity import weights
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.stages.judge_prompts import Chosen, heldout
from dpaudit.storage.remedies import of_run
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import read_sealed_lines, write_sealed_lines
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging
from dpaudit.system.progress import Progress

CLINIC = "builtin:clinic"
FORMAT = "answers/3"
QUANTILE = 0.99  # of the lengths of public reference answers
TOKENS = 256  # of an answer where nobody said and no length may be looked at
NOT_PUBLIC = "the prompts are not declared public (judging.public)"

Row = dict[str, Any]
HELDOUT = Chosen({}, {})


@dataclass(frozen=True)
class Limit:
    """How many tokens an answer may have, and why so many."""

    tokens: int
    source: str


def limit_of(run_dir: RunDir, plan: Plan, asked_of: Chosen = HELDOUT) -> Limit:
    """As declared; else so many that no answer like the references of public prompts is cut, nor one of twice
    their length. Lengths of private answers are private data, which no adapter's epsilon covers, and are not
    looked at.
    """
    asked = (plan.suite.judging or Judging()).max_new_tokens
    if asked != "auto":
        return Limit(asked, "as the suite declares")
    if asked_of.file:
        return Limit(TOKENS, f"the default, since {asked_of.file} has no reference answers")
    references = list(references_of(heldout(run_dir)).values()) if plan.suite.has_public_prompts else []
    if not references:
        return Limit(TOKENS, "the default, since no length of a private answer is looked at")
    from dpaudit.models.tokenizers import tokenizer_of

    tokenizer = tokenizer_of(plan.suite.model)
    sizes = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in references]
    longest = int(np.quantile(sizes, QUANTILE, method="higher")) + 1  # with the token that ends it
    source = f"twice what {QUANTILE:.0%} of the reference answers of the public prompts take at most"
    return Limit(2 * longest, source)


def references_of(records: Iterable[Record]) -> dict[str, str]:
    """Record id -> its right answer: the last turn, or the chosen answer of a pair."""
    told = {record.id: record.chosen or (record.turns[-1].text if record.turns else "") for record in records}
    return {name: text for name, text in told.items() if text}


def answers(
    run_dir: RunDir,
    plan: Plan,
    names: Sequence[str],
    asked_of: Chosen,
    limit: Limit,
    progress: Progress,
    is_offline: bool = False,
) -> dict[tuple[str, str], Row]:
    """(model, prompt id) -> its greedy answer. Those of an unchanged model are read back, the rest generated.

    Raises UsageError where one is missing and nothing may be generated.
    """
    sources, prompts = sources_of(run_dir, plan, names, limit, asked_of), asked_of.prompts
    rows = kept_answers(run_dir, sources, asked_of)
    pending = {
        name: new for name in names if (new := [prompt for prompt in prompts if (name, prompt) not in rows])
    }
    if pending and is_offline:
        raise _no_answers(
            run_dir, asked_of.answers, sum(map(len, pending.values())), len(names) * len(prompts)
        )
    if pending:
        with progress.task("answering", sum(map(len, pending.values()))) as advance:
            writer = writing.of_run(run_dir, plan, list(pending), backend_of(plan))
            if asked_of.file:
                turns, setting = list(prompts.values()), "--set judging.max_new_tokens="
                writing.require_room(asked_of.file, turns, writer, Decoding(limit.tokens), setting)
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
                write_sealed_lines(run_dir, asked_of.answers, rows.values())
    return {(name, prompt): rows[name, prompt] for name in names for prompt in prompts}


def kept_answers(
    run_dir: RunDir, sources: Mapping[str, str], asked_of: Chosen = HELDOUT
) -> dict[tuple[str, str], Row]:
    """(model, prompt id) -> the kept answer of a model as it is now."""
    there = run_dir.file(asked_of.answers).is_file()
    kept = read_sealed_lines(run_dir, asked_of.answers) if there else []
    return {(row["arm"], row["prompt"]): row for row in kept if sources.get(row["arm"]) == row["source"]}


def sources_of(
    run_dir: RunDir, plan: Plan, names: Sequence[str], limit: Limit, asked_of: Chosen = HELDOUT
) -> dict[str, str]:
    """Model -> what its answers depend on, as one digest."""
    return {name: _source(run_dir, name, plan, limit.tokens, asked_of.digest) for name in names}


def backend_of(plan: Plan) -> str:
    """What writes the answers."""
    return (plan.suite.judging or Judging()).backend


def check_writer(run_dir: RunDir, plan: Plan, names: Sequence[str], limit: Limit) -> None:
    """Raises UsageError, before a judge is asked, for adapters that the backend cannot run."""
    writing.check(backend_of(plan), Decoding(limit.tokens), writing.adapters_of(run_dir, names))


def _source(run_dir: RunDir, name: str, plan: Plan, max_new_tokens: int, prompts: str) -> str:
    files = ["plan.json", "corpus/manifest.json", *([] if name == BASE else [weights_of(name)])]
    base = weights.of_base(plan.suite.model.base)
    made_from = [FORMAT, run_dir.digests(files), base, max_new_tokens, backend_of(plan)]
    made_from += [prompts] if prompts else []
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]


def _no_answers(run_dir: RunDir, file: str, absent: int, wanted: int) -> UsageError:
    return UsageError(
        str(run_dir.file(file)),
        f"{wanted} answers of the models as they are now",
        f"{absent} too few",
        f"type `{of_run('dpaudit judge', run_dir.name)}`, which makes them",
    )


# ---- what is known of them


def known_of(
    run_dir: RunDir,
    plan: Plan,
    asked_of: Chosen,
    rows: Mapping[tuple[str, str], Row],
    accuracy: Accuracy | None,
) -> Answered:
    """Facts, references, texts and cut answers of the prompts. Those of a file have no references."""
    is_clinic = plan.suite.data.source == CLINIC and not asked_of.file
    prompts, references = asked_of.prompts, {} if asked_of.file else references_of(heldout(run_dir))
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


def no_examples(plan: Plan, asked_of: Chosen) -> str | None:
    """Why no answers are shown side by side; None where they are."""
    if asked_of.file:
        return f"the prompts are those of {asked_of.file}, which nobody declared public"
    return None if plan.suite.has_public_prompts else NOT_PUBLIC


def examples_of(run_dir: RunDir, plan: Plan, asked_of: Chosen, known: Answered) -> tuple[Example, ...]:
    """Answers side by side where the prompts are public, else none. The clinic's training text is public."""
    if no_examples(plan, asked_of) is not None:
        return ()
    secrets = [
        secret
        for row in run_dir.iterate_lines("corpus/candidates.jsonl")
        if row["kind"] == "canary"
        for secret in (row["secret"], row.get("other"))
        if secret
    ]
    training = () if plan.suite.data.source == CLINIC else training_texts(run_dir)
    return examples.side_by_side(asked_of.prompts, known, secrets, training)
