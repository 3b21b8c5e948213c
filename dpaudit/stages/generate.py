"""Batch answers to a file of prompts: by a model, by an adapter, or by arms of a run. Nothing is trained."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit import __version__
from dpaudit.data import prompt_files
from dpaudit.data.prompt_files import Prompt
from dpaudit.errors import UsageError, unread
from dpaudit.findings.quality import BASE
from dpaudit.models import decoding
from dpaudit.models.decoding import Decoding
from dpaudit.stages import writing
from dpaudit.stages.audited import Audited
from dpaudit.stages.integrity import weights
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.storage import exclusive
from dpaudit.storage.answer_log import NEW, AnswerLog
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.whole_files import write_text
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import BACKENDS, HF, VLLM
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.writers import Writer

SEALED_BY = b"dpaudit generate"  # against lines of other weights or settings, not against people
Row = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How answers are drawn."""

    decoding: Decoding
    seed: int = 0
    backend: str = HF


def way(preset: str, tokens: int, seed: int, backend: str) -> Way:
    """Raises UsageError for an unknown preset or backend."""
    if backend not in BACKENDS:
        raise UsageError("--backend", f"one of {', '.join(BACKENDS)}", f"{backend:.40}")
    return Way(decoding.of_preset(preset, tokens), seed, backend)


@dataclass(frozen=True, eq=False)
class Answerers:
    """Models over one base: name -> adapter, None for the base or for a model without one."""

    base: str
    adapters: Mapping[str, Path | None]
    files: Mapping[str, Any]  # name -> the hashes of what it answers with
    run: tuple[RunDir, Plan] | None = None
    audited: Audited | None = None


def of_model(adapter: Path | None, model: str | None, base: str | None) -> Answerers:
    """A model or an adapter that was trained anywhere. Raises UsageError for one that is not there."""
    if (adapter is None) == (model is None):
        got = "no model" if adapter is None else "two models"
        raise UsageError("dpaudit generate", "one of --model DIR, --adapter DIR, --run NAME", got)
    if model is not None and base is not None:
        raise UsageError("--base", "--adapter beside it", "--model", "leave --base out")
    from dpaudit.models import hub, secret_spans

    if adapter is None:
        assert model is not None
        hub.fetch(model, "--model")
        secret_spans.check_folder(model, "--model")
        name = Path(model).name
        return Answerers(model, {name: None}, {name: weights.of_base(model)})
    audited = Audited(adapter, base=base)
    of = audited.base_name()
    assert of is not None
    hub.fetch(of, "--base")
    secret_spans.check_folder(of, "--base")
    name = adapter.absolute().name
    files = {"adapter": _hashes(adapter), "base": weights.of_base(of)}
    return Answerers(of, {name: adapter}, {name: files}, audited=audited)


def of_run(run_dir: RunDir, plan: Plan, names: Sequence[str]) -> Answerers:
    """Arms of a run, and `base` for what they were trained on; without names all, and the base."""
    weights.require_base(run_dir, plan)
    trained = [arm.name for arm in plan.suite.grid.arms if run_dir.file(weights_of(arm.name)).is_file()]
    known = [BASE, *trained]
    if unknown := next((name for name in names if name not in known), None):
        raise UsageError(
            "--arm", f"one of {', '.join(known)}", f"{unknown:.40}", f"dpaudit show --run {run_dir.name}"
        )
    wanted = list(dict.fromkeys(names)) or known
    adapters = {name: None if name == BASE else run_dir.file(weights_of(name)).parent for name in wanted}
    base = weights.of_base(plan.suite.model.base)
    files = {name: {"adapter": _hashes(folder), "base": base} for name, folder in adapters.items()}
    return Answerers(plan.suite.model.base, adapters, files, run=(run_dir, plan))


def _hashes(folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    return {file.relative_to(folder).as_posix(): sha for file, sha in weights.of_folder(folder).items()}


def targets(out: Path, names: Sequence[str]) -> dict[str, Path]:
    """Model -> the file of its answers: `out` itself for one model where it ends in .jsonl, else a file of
    its name in the folder `out`. Raises UsageError where several answer into one file, or a file is there.
    """
    if out.suffix == ".jsonl":
        if len(names) > 1:
            raise UsageError(f"--out {out}", f"a folder for {len(names)} models", "one file", "--out DIR")
        files = {names[0]: out}
    else:
        files = {name: out / f"{name}.jsonl" for name in names}
    for file in files.values():
        if file.exists():
            raise UsageError(
                str(file),
                "a file that is not there yet",
                "one that is",
                "delete it, or name another with --out",
            )
    return files


def run(prompts: Path, answerers: Answerers, out: Path, way: Way, progress: Progress) -> list[Row]:
    """Writes one JSONL file a model and returns a row on each. What a killed command answered is not asked
    again. Raises UsageError, before a model is loaded, for files and settings that do not fit.
    """
    asked, files = prompt_files.read(prompts), targets(out, list(answerers.adapters))
    adapters = {name: folder for name, folder in answerers.adapters.items() if folder}
    writing.check(way.backend, way.decoding, adapters)
    for folder in {file.parent for file in files.values()}:
        _make(folder)
    with exclusive.making(*files.values()):
        writer = _writer(answerers, adapters, way.backend)
        turns = [prompt.turns for prompt in asked]
        writing.require_room(str(prompts), turns, writer, way.decoding, "--max-new-tokens ")
        told = []
        with progress.task("answering", len(files) * len(asked)) as advance:
            for name, file in files.items():
                log = AnswerLog(_log(file), SEALED_BY, [_made_from(answerers, name, way)])
                rows = _answered(writer, _slot(answerers, name, way.backend), asked, log, way, advance)
                write_text(
                    file, "".join(_line(name, prompt, row) for prompt, row in zip(asked, rows, strict=True))
                )
                _log(file).unlink(missing_ok=True)
                told.append(_summary(name, file, rows))
    return told


def _writer(answerers: Answerers, adapters: Mapping[str, Path], backend: str) -> "Writer":
    if answerers.run:
        return writing.of_run(*answerers.run, list(answerers.adapters), backend)
    if backend == VLLM:
        from dpaudit.models.vllm_writer import VllmWriter

        return VllmWriter(answerers.base, adapters)
    from dpaudit.models import secret_spans
    from dpaudit.models.hf_model import HFModel
    from dpaudit.models.writers import HFWriter

    if answerers.audited and answerers.audited.adapter:
        opened, _, _ = secret_spans.open_adapter(answerers.audited.adapter, answerers.audited.base)
        return HFWriter(opened.model)
    return HFWriter(HFModel.load(answerers.base))


def _slot(answerers: Answerers, name: str, backend: str) -> str | None:
    """What the writer calls the adapter of a model."""
    if answerers.adapters[name] is None:
        return None
    return "audited" if answerers.audited and backend == HF else name


def _answered(
    writer: "Writer", adapter: str | None, asked: Sequence[Prompt], log: AnswerLog, way: Way, advance: Any
) -> list[Row]:
    """One answer a prompt, each kept as it comes."""
    turns = [prompt.turns for prompt in asked]
    questions = [[place, [asdict(turn) for turn in of]] for place, of in enumerate(turns)]
    rows = log.answers(questions)
    known = {place for place, row in enumerate(rows) if row is not NEW}
    advance(len(known))
    if len(known) < len(rows):
        for batch, written in writer.write(adapter, turns, way.decoding, way.seed, known):
            for place, answer in zip(batch, written, strict=True):
                if rows[place] is NEW:
                    rows[place] = {"answer": answer.text, "cut": answer.is_cut}
                    log.keep(questions[place], rows[place])
                    advance()
    return rows


def _line(name: str, prompt: Prompt, row: Row) -> str:
    """A row in the form that `judge --answers` and `scorecard` read."""
    alone = len(prompt.turns) == 1
    told = {
        prompt.key: prompt.name,
        **(
            {"prompt": prompt.turns[0].text}
            if alone
            else {"messages": [{"role": turn.role, "content": turn.text} for turn in prompt.turns]}
        ),
        "answer": row["answer"],
        **({"reference": prompt.reference} if prompt.reference is not None else {}),
        "finish_reason": "length" if row["cut"] else "stop",
        "model": name,
    }
    return json.dumps(told, ensure_ascii=False) + "\n"


def _summary(name: str, file: Path, rows: Sequence[Row]) -> Row:
    return {
        "model": name,
        "answers": len(rows),
        "cut": sum(row["cut"] for row in rows),
        "empty": sum(not row["answer"] for row in rows),
        "file": str(file),
    }


def _made_from(answerers: Answerers, name: str, way: Way) -> str:
    """All that decides an answer, besides its prompt, as one digest."""
    made = [__version__, answerers.files[name], asdict(way.decoding), way.seed, way.backend]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def _log(file: Path) -> Path:
    return file.with_name(f".{file.name}.answers")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unread(folder, "a folder that can be written", error, "name another with --out") from None
