"""The prompts that a run's models are judged on: held-out ones, or those of a file with criteria of their
own.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpaudit.data.corpus import Record, Turn
from dpaudit.judging import own_criteria
from dpaudit.judging.own_criteria import Graded
from dpaudit.judging.rubric import Criterion, Rubric
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import read_sealed_lines, write_sealed_lines
from dpaudit.suite.suite import Judging

FILE = "judge/prompts.jsonl"  # a copy of the file, so that a replay needs no other
ANSWERS, ANSWERS_OF_FILE = "judge/answers.jsonl", "judge/prompts_answers.jsonl"

Prompts = dict[str, tuple[Turn, ...]]  # id of the first record that asks -> the turns before the answer
Criteria = Mapping[str, tuple[Criterion, ...]]  # prompt id -> criteria in place of the rubric's


@dataclass(frozen=True)
class Chosen:
    """Prompts with what belongs to them. `file` is the name of the file that they are of, "" for held-out
    ones; `digest` is another one for other prompts of the same ids.
    """

    prompts: Prompts
    criteria: Criteria
    file: str = ""
    digest: str = ""
    rows: tuple[Graded, ...] = ()  # the whole file

    @property
    def cautions(self) -> tuple[str, ...]:
        """What must be known of every rate on these prompts."""
        return own_criteria.cautions(self.file, len(self.prompts), len(self.rows)) if self.file else ()

    @property
    def answers(self) -> str:
        """Where the models' answers are kept."""
        return ANSWERS_OF_FILE if self.file else ANSWERS

    @property
    def inputs(self) -> list[str]:
        """What verdicts depend on beside plan and corpus."""
        return [FILE] if self.file else []


def chosen(run_dir: RunDir, settings: Judging, rules: Rubric, is_offline: bool = False) -> Chosen:
    """The first `prompts` of the file of `settings`, else of the held-out records. Raises UsageError for a
    file or a rubric that does not fit. Offline, the copy of the file is read.
    """
    if settings.criteria is None:
        return Chosen(prompts_of(heldout(run_dir), settings.prompts), {})
    file = Path(settings.criteria)
    own_criteria.require_criteria(rules, file)
    rows = _copied(run_dir) if is_offline else own_criteria.read(file)
    turns = {row.id: row.turns for row in rows}
    asked = [[name, [asdict(turn) for turn in of]] for name, of in turns.items()]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    first = rows[: settings.prompts]
    criteria = {row.id: row.criteria for row in first}
    return Chosen({row.id: row.turns for row in first}, criteria, file.name, digest, rows)


def keep(run_dir: RunDir, asked_of: Chosen) -> None:
    """Copies the file of the prompts into the run."""
    if not asked_of.file:
        return
    rows = [_plain(row) for row in asked_of.rows]
    if not run_dir.file(FILE).is_file() or read_sealed_lines(run_dir, FILE) != rows:
        write_sealed_lines(run_dir, FILE, rows)


def heldout(run_dir: RunDir) -> list[Record]:
    """The records that no arm is trained on."""
    return [Record.from_json(row) for row in run_dir.read_lines("corpus/heldout.jsonl")]


def prompts_of(records: Sequence[Record], count: int) -> Prompts:
    """The first `count` different prompts of the held-out records: what comes before each record's last
    answer.
    """
    prompts: Prompts = {}
    for record in records:
        turns = record.turns if record.is_pair else record.turns[:-1]
        if turns and turns not in prompts.values() and len(prompts) < count:
            prompts[record.id] = turns
    return prompts


def as_draws(rows: Sequence[dict[str, Any]], prompts: Prompts) -> list[dict[str, Any]]:
    """Rows of judgements, where `prompt` becomes the first id with the same prompt, and `id` is their own: so
    a prompt that occurs twice is one draw.
    """
    first: dict[tuple[Turn, ...], str] = {}
    for name, turns in prompts.items():
        first.setdefault(turns, name)
    return [row | {"id": row["prompt"], "prompt": first[prompts[row["prompt"]]]} for row in rows]


def _plain(row: Graded) -> dict[str, Any]:
    return {
        "id": row.id,
        "turns": [asdict(turn) for turn in row.turns],
        "criteria": [asdict(one) for one in row.criteria],
    }


def _copied(run_dir: RunDir) -> tuple[Graded, ...]:
    return tuple(
        Graded(
            f"{FILE}:{number}",
            row["id"],
            tuple(Turn(**turn) for turn in row["turns"]),
            tuple(Criterion(**one) for one in row["criteria"]),
        )
        for number, row in enumerate(read_sealed_lines(run_dir, FILE), 1)
    )
