"""Broken inputs of every kind, by the thousand: each is taken, or refused in one line that quotes nothing
private.

Every input goes through what its command does with it until weights are read or a file is written, in this
process:

- `data`: `prepare.load_corpus` (which renders every row) and `prepare.draw`, all that `train` does with a
file before its run; some through `plant`.
- `suite`, `setting`: options, `plans.resolve`, `gate.check` without weights, and plan.json written and
read back.
- `recipe`, `rubric`: their loaders, and what a stage makes of them first (a signal; prompts, answers and
planted faults).
- `key`: `verify` up to its model, with both hashes made again, then texts, scores and a verdict.
- `claim`, `scores`: the typed commands `verify` and `bound scores`.
- `model`: `preflight.check` (configuration, headers, tokenizer), then loaded, a dialogue rendered, and one
answer's log-probabilities asked for.
- `adapter`: the same on its base, with the ledger as `merge` reads it and as `train --start` does.

To run one input again: `FUZZ=data:17 pytest tests/test_fuzz.py -k alone`.
"""

import contextlib
import csv
import gzip
import io
import json
import os
import random
import shutil
import signal
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import fuzzing
import pytest
import yaml
from test_audit_key import judged, sealed
from test_beside import written
from test_plant import planted

from dpaudit import cli, content
from dpaudit.commands import mistakes
from dpaudit.commands.asked import Asked
from dpaudit.data import reading
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import Gathering, Mistakes, PartialError, UsageError
from dpaudit.judging import criteria, replies, rubric, verdicts
from dpaudit.judging.planted import plant as plant_faults
from dpaudit.judging.rubric import Comparison
from dpaudit.pipeline import gate, plans
from dpaudit.planting import audit_key, hold_out, plant
from dpaudit.privacy import beside
from dpaudit.signals import recipe
from dpaudit.stages.prepare import corpus, dialogues
from dpaudit.stages.prepare.draw import draw as draw_corpus
from dpaudit.stages.train import merge
from dpaudit.suite.plan import Plan

FAST = {"data": 700, "suite": 150, "recipe": 250, "rubric": 250, "key": 150, "claim": 200, "scores": 150,
    "setting": 100, "model": 30, "adapter": 20}  # fmt: skip
ALL = {"data": 7100, "suite": 1500, "recipe": 2500, "rubric": 2500, "key": 1500, "claim": 1500,
    "scores": 1500, "setting": 900, "model": 600, "adapter": 400}  # fmt: skip
CHUNK = 250  # inputs of one slow test
PIECE = 12  # characters of a private text that no message may hold
SECONDS = 10.0


@dataclass(frozen=True)
class Trial:
    """One input: `ask` does what its command does with it and returns what it would print; `private` may not
    be told.
    """

    ask: Callable[[], str]
    private: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench:
    """What all inputs of a test start from: made once, never changed."""

    model: Path
    adapter: Path
    keys: tuple[dict[str, Any], ...]
    key: Path
    plan: Plan  # of suite small


class HangError(BaseException):
    """No Exception: whoever catches those must not catch it."""


Kind = Callable[[random.Random, Path, Bench], Trial]


# ---- what may come of an input


@contextlib.contextmanager
def watched(seconds: float = SECONDS) -> Iterator[None]:
    """Raises HangError after so many seconds of the processor, or six times as many by the clock."""

    def late(*_: object) -> None:
        raise HangError

    clocks = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, 6 * seconds),
    }
    before = {number: signal.signal(number, late) for number in clocks}
    for clock, limit in clocks.values():
        signal.setitimer(clock, limit)
    try:
        yield
    finally:
        for clock, _ in clocks.values():
            signal.setitimer(clock, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def tried(trial: Trial, told: object) -> str:
    """How an input ended: taken or refused. Raises AssertionError, with what `told` says of it, for any other
    end.
    """
    try:
        with watched():
            said, ended = trial.ask(), "taken"
    except (UsageError, PartialError, cli.typer.TyperException) as error:
        lines = [str(each) for each in error.errors] if isinstance(error, Mistakes) else [str(error)]
        said, ended = max(lines, key=lambda line: (not line.isprintable(), len(line))), "refused"
    except OSError as error:
        found = mistakes.refused(error)
        if found is None:
            raise AssertionError(told) from error
        said, ended = str(found), "refused"
    except (Exception, HangError, SystemExit) as error:
        raise AssertionError(told) from error
    if ended == "refused":
        assert said.isprintable() and len(said) < 3000, (told, said)
    check_silent(said, trial.private, told)
    return ended


def check_silent(said: str, private: tuple[str, ...], told: object) -> None:
    for text in private:
        for start in range(max(1, len(text) - PIECE + 1)):
            assert text[start : start + PIECE] not in said, (told, said)


def secret_text(draw: random.Random) -> str:
    """Six words that nobody else writes, none so long that a piece of it would count."""
    return " ".join(
        "".join(draw.choices("bdfgklmnprstvz", k=draw.randint(3, 8))) + draw.choice("aeiou") for _ in range(6)
    )


# ---- data


def _turns(draw: random.Random, told: Callable[[], str]) -> list[dict[str, Any]]:
    roles = ["user", "assistant"] * draw.choice([1, 1, 2])
    first = ["system"] if draw.random() < 0.2 else []
    return [{"role": role, "content": told()} for role in (*first, *roles)]


def _sharegpt(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]


SHAPES: dict[str, Callable[[random.Random, Callable[[], str]], dict[str, Any]]] = {
    "messages": lambda draw, told: {"messages": _turns(draw, told)},
    "sharegpt": lambda draw, told: {"conversations": _sharegpt(_turns(draw, told))},
    "string": lambda draw, told: {"messages": json.dumps(_turns(draw, told))},
    "parts": lambda draw, told: {
        "messages": [
            {**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in _turns(draw, told)
        ]
    },
    "alpaca": lambda draw, told: {
        "instruction": told(),
        "input": draw.choice(["", told()]),
        "output": told(),
    },
    "history": lambda draw, told: {
        "instruction": told(),
        "output": told(),
        "system": told(),
        "history": [[told(), told()]],
    },
    "completion": lambda draw, told: {"prompt": told(), draw.choice(["completion", "response"]): told()},
    "question": lambda draw, told: {"question": told(), "answer": told()},
    "text": lambda draw, told: {"text": told()},
    "pair": lambda draw, told: {"prompt": told(), "chosen": told(), "rejected": told()},
    "pair_system": lambda draw, told: {
        "system": told(),
        "question": told(),
        "chosen": told(),
        "rejected": told(),
    },
    "pair_turns": lambda draw, told: {
        "prompt": _turns(draw, told)[:-1],
        "chosen": [{"role": "assistant", "content": told()}],
        "rejected": [{"role": "assistant", "content": told()}],
    },
    "hh": lambda draw, told: {
        "chosen": f"\n\nHuman: {(asked := told())}\n\nAssistant: {told()}",
        "rejected": f"\n\nHuman: {asked}\n\nAssistant: {told()}",
    },
}
COLUMNS = ("id", "patient_id", "patient", "name_key", "system", "weight", "label", "split", "source", "mask",
    "images", "tools", "history", "context", "chosen", "messages", "text", "input")  # fmt: skip
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "gb18030", "latin-1", "cp1252")
FORMATS = ("jsonl", "jsonl", "jsonl", "json", "csv", "tsv", "parquet", "arrow", "gz", "folder", "txt", "none")


def data(draw: random.Random, place: Path, bench: Bench) -> Trial:
    private = tuple(secret_text(draw) for _ in range(3))

    def told() -> str:
        return (
            draw.choice(["", "I have ", "头疼 "])
            + draw.choice(private)
            + draw.choice(["", "?", "\nand more"])
        )

    shape, count = draw.choice(list(SHAPES)), draw.choice([0, 3, 30, 30, 30])
    rows = [SHAPES[shape](draw, told) for _ in range(count)]
    if draw.random() < 0.5:
        name = draw.choice(COLUMNS)
        for number, row in enumerate(rows):
            row[name] = draw.choice(
                [number, str(number), f"{draw.choice(private)} {number}", float(number), 1]
            )
    if rows and draw.random() < 0.5:
        rows = _changed(draw, rows)
    file = _data_file(draw, place, rows)
    return Trial(lambda: _read_data(draw, place, file, shape, bench), private)


def _changed(draw: random.Random, rows: list[Any]) -> list[Any]:
    found = draw.choice([fuzzing.mutated, fuzzing.nudged])(rows, draw)
    return found if isinstance(found, list) else [found]


def _data_file(draw: random.Random, place: Path, rows: list[Any]) -> Path:
    kind = draw.choice(FORMATS)
    written = FORMAT[kind](draw, rows) if kind in FORMAT else _jsonl(draw, rows)
    if draw.random() < 0.15:
        written = written.decode("utf-8", "replace").encode(draw.choice(ENCODINGS), "replace")
    if draw.random() < 0.35:
        written = fuzzing.mutated_bytes(written, draw)
    if kind == "gz":
        written = gzip.compress(written)
        if draw.random() < 0.3:
            written = fuzzing.mutated_bytes(written, draw)
    if kind == "folder":
        return _data_folder(draw, place / "folder", written)
    file = place / {"gz": draw.choice(["d.jsonl.gz", "d.jsonl"]), "none": "data"}.get(kind, f"d.{kind}")
    file.write_bytes(written)
    return file


def _data_folder(draw: random.Random, folder: Path, written: bytes) -> Path:
    folder.mkdir()
    (
        folder / draw.choice(["train.jsonl", "data-00000-of-00001.jsonl", "test.jsonl", "x.py", "é.jsonl"])
    ).write_bytes(written)
    told: Any = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {
                        "split": "train",
                        "path": draw.choice(["*.jsonl", "train.jsonl", "../*", "http://localhost:1/x"]),
                    }
                ],
            }
        ]
    }
    card = yaml.safe_dump(fuzzing.mutated(told, draw)).encode("utf-8", "surrogatepass")
    if draw.random() < 0.7:
        (folder / "README.md").write_bytes(b"---\n" + fuzzing.mutated_bytes(card, draw) + b"\n---\n")
    if draw.random() < 0.2:
        (folder / draw.choice(["dataset_infos.json", "state.json", "dataset_dict.json"])).write_bytes(
            fuzzing.mutated_bytes(b'{"splits": ["train"]}', draw)
        )
    return folder


def _jsonl(draw: random.Random, rows: list[Any]) -> bytes:
    ends = draw.choice(["\n", "\n", "\n", "\r\n", "\n\n"])
    plain = draw.random() < 0.5
    return "".join(json.dumps(row, ensure_ascii=plain) + ends for row in rows).encode(
        "utf-8", "surrogatepass"
    )


def _json(draw: random.Random, rows: list[Any]) -> bytes:
    return json.dumps(rows, indent=draw.choice([None, 1])).encode()


def _csv(draw: random.Random, rows: list[Any], delimiters: str = ",;\t|") -> bytes:
    told = [row for row in rows if isinstance(row, dict)]
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream,
        list(dict.fromkeys(key for row in told for key in row)) or ["a"],
        delimiter=draw.choice(delimiters),
    )
    if draw.random() < 0.85:
        writer.writeheader()
    with contextlib.suppress(csv.Error):
        writer.writerows(
            [
                {
                    key: json.dumps(value) if isinstance(value, dict | list) else value
                    for key, value in row.items()
                }
                for row in told
            ]
        )
    return stream.getvalue().encode("utf-8", "surrogatepass")


def _table(draw: random.Random, rows: list[Any], as_arrow: bool) -> bytes:
    """Of rows that a table cannot hold, JSON lines: a file whose name is wrong."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    try:
        table = pa.Table.from_pylist([row for row in rows if isinstance(row, dict)])
        if table.num_columns and draw.random() < 0.2:
            name = draw.choice(table.column_names)
            values = [
                pa.array([7] * len(table), kind)
                for kind in (
                    pa.date32(),
                    pa.duration("ns"),
                    pa.timestamp("us", "Asia/Tokyo"),
                    pa.time64("ns"),
                )
            ]
            table = table.set_column(table.column_names.index(name), name, draw.choice(values))
        if as_arrow:
            with draw.choice([pa.ipc.new_stream, pa.ipc.new_file])(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            pq.write_table(table, sink)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return _jsonl(draw, rows)
    return sink.getvalue()


FORMAT: dict[str, Callable[[random.Random, list[Any]], bytes]] = {
    "json": _json,
    "csv": _csv,
    "tsv": _csv,
    "parquet": lambda draw, rows: _table(draw, rows, False),
    "arrow": lambda draw, rows: _table(draw, rows, True),
    "txt": lambda draw, rows: "\n\n".join(map(str, rows)).encode("utf-8", "surrogatepass"),
}


WINDOWS = ("0:2", "1:", ":", "5:3", "-1:2", "1:1", "9:99999999999999999", "\u0661:")
DIALOGUE = [{"role": "user", "content": "May I drink?"}, {"role": "assistant", "content": "No."}]


def _read_data(draw: random.Random, place: Path, file: Path, shape: str, bench: Bench) -> str:
    is_pair = shape.startswith(("pair", "hh"))
    unit = draw.choice(["record"] * 6 + ["patient", "pair"] + ["pair"] * 6 * is_pair)
    if file.suffix in (".jsonl", ".json", ".csv", ".tsv", ".parquet") and draw.random() < 0.2:
        out, secret = place / f"out{file.suffix}", place / "k.json"
        if draw.random() < 0.3:
            return json.dumps(hold_out.hold_out(file, out, secret, 100, unit))
        family = draw.choice(["invented", "natural"])
        return json.dumps(plant.plant(file, out, secret, 100, unit, family))
    key = draw.choice(
        [{"text": "text"}.get(shape, "preference" if is_pair else "source")] * 5
        + ["source", "preference", "text"]
    )
    source = str(file)
    if key != "source":
        source = str(place / "good.jsonl")
        Path(source).write_text("".join(json.dumps({"messages": DIALOGUE}) + "\n" for _ in range(30)))
    plan = bench.plan
    chosen = replace(
        plan.suite.data,
        **{"source": source, key: str(file)},
        rows=draw.choice(WINDOWS) if draw.random() < 0.1 else None,
    )
    candidates = replace(plan.suite.candidates, family=draw.choice(["invented", "rare_bigram"]))
    training = replace(plan.suite.training, unit=unit, records_per_patient=draw.choice([None, None, 1, 2]))
    plan = replace(plan, suite=replace(plan.suite, data=chosen, training=training, candidates=candidates))
    loaded = corpus.load_corpus(plan)
    rows, *_ = draw_corpus(plan, loaded)
    assert all(rows) and loaded.heldout is not None
    return "\n".join(loaded.notes)


# ---- suites, recipes, rubrics, settings


def _edited(draw: random.Random, name: str, folder: str) -> tuple[str, bytes]:
    file = (
        draw.choice(sorted(content.shipped(folder).glob("*.yaml")))
        if not name
        else content.find(folder, name)
    )
    if draw.random() < 0.4:
        return file.stem, fuzzing.mutated_bytes(file.read_bytes(), draw)
    found = draw.choice([fuzzing.mutated, fuzzing.nudged, fuzzing.nudged])(content.load_yaml(file), draw)
    return file.stem, yaml.safe_dump(found, allow_unicode=True).encode("utf-8", "surrogatepass")


def _laid(draw: random.Random, place: Path, folder: str) -> str:
    name, told = _edited(draw, "", folder)
    (place / folder).mkdir()
    (place / folder / f"{name}.yaml").write_bytes(told)
    return name


def planned(name: str, changed: dict[str, Any]) -> str:
    plan = plans.resolve(name, changed)
    faults = Gathering()  # of the gate what reads no weights and no data
    gate._pass_settings(plan, faults)
    for content_check in gate._contents(plan):
        faults.passes(*content_check)
    faults.end()
    told = json.loads(json.dumps(plan.to_json(), allow_nan=False))
    assert Plan.from_json(told).to_json() == told
    return ""


def suites(draw: random.Random, place: Path, bench: Bench) -> Trial:
    name = _laid(draw, place, "suites")
    return Trial(lambda: planned(name, {}))


def setting(draw: random.Random, place: Path, bench: Bench) -> Trial:
    """`--set`, and the options beside it that say a value of their own."""
    known = _dotted(content.load_yaml(content.find("suites", draw.choice(["small", "demo"]))))
    said = []
    for _ in range(draw.choice([1, 1, 2])):
        key = draw.choice(
            [
                *draw.choices(list(known), k=8),
                draw.choice(["", ".", "a..b", "data", "grid.x", "\u202e", "x" * 5000]),
            ]
        )
        own = (
            yaml.safe_dump(fuzzing.nudged({"": known.get(key, 1)}, draw)[""], default_flow_style=True)
            .strip()
            .removesuffix("\n...")
        )
        value = draw.choice(
            [
                draw.choice(fuzzing.PIECES).decode("utf-8", "replace"),
                yaml.safe_dump(draw.choice(fuzzing.VALUES)).strip(),
                own,
                own,
            ]
        )
        said.append(f"{key}{draw.choice(['='] * 8 + ['', '=='])}{value}")
    options = {
        name: draw.choice(
            [
                "",
                ",",
                "8",
                "8,8",
                "inf",
                "-1",
                "x",
                "0",
                "\u0663",
                "nan",
                "1e999",
                "dpo",
                "ipo,dpo",
                "../x",
                "\x1b[2J",
                "y" * 3000,
            ]
        )
        for name in ("eps", "dpo", "unit", "rows", "data", "text")
        if draw.random() < 0.1
    }
    return Trial(lambda: planned("small", Asked(settings=said, **options).overrides()))


def _dotted(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    inner = (_dotted(one, f"{before}{key}.") for key, one in value.items() if isinstance(one, dict))
    return {f"{before}{key}": one for key, one in value.items()} | {
        key: one for found in inner for key, one in found.items()
    }


def recipes(draw: random.Random, place: Path, bench: Bench) -> Trial:
    name = _laid(draw, place, "attacks")

    def ask() -> str:
        found = recipe.load(name)
        found.make_signal(name)
        recipe.check_minimum([found], bench.plan.suite.candidates)
        return found.digest

    return Trial(ask)


def rubrics(draw: random.Random, place: Path, bench: Bench) -> Trial:
    name = _laid(draw, place, "judges")
    asked = [
        Record(
            f"r{n}",
            (
                Turn("user", f"May I take ibuprofen {n} mg?"),
                Turn("assistant", f"Take 200 mg of ibuprofen {n} times. Do not take it with alcohol."),
            ),
        )
        for n in range(4)
    ]

    def ask() -> str:
        found = rubric.load(name)
        verdicts.parse("The winner: A", found.labels)
        plant_faults(asked, found.controls)
        pair = Comparison(asked[0].turns[:-1], "one", "two")
        return "".join(replies.shown(found, one) for one in criteria.questions(found, [pair]))

    return Trial(ask)


# ---- keys, claims, scores


def typed(*words: str) -> str:
    """What the command does with these words, an error of it raised as it is."""
    cli._check_words(list(words))
    cli.app(list(words), prog_name="dpaudit", standalone_mode=False)
    return ""


def key(draw: random.Random, place: Path, bench: Bench) -> Trial:
    whole = draw.choice(bench.keys)
    path = sealed(draw.choice([fuzzing.mutated, fuzzing.nudged, _recoined])(whole, draw), place / "k.json")
    if draw.random() < 0.2:
        path.write_bytes(fuzzing.mutated_bytes(path.read_bytes(), draw))

    def ask() -> str:
        found = audit_key.load(path)
        audit_key.check(found, path, draw.choice([None, None, bench.key.parent / "planted.jsonl"]))
        judged(found)
        return audit_key.commitment(found) or ""

    private = [
        text for canary in whole["canaries"] for text in (canary["secret"], canary["rejected"]) if text
    ]
    return Trial(ask, (*private, whole["hash_key"]))


def _recoined(whole: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Another key that is whole: other coins, other guesses, and answers with a word more."""
    found: dict[str, Any] = json.loads(json.dumps(whole))
    found["coins"] = [draw.random() < draw.choice([0.1, 0.5, 0.5]) for _ in found["coins"]]
    found["rule"]["guesses"] = draw.choice([1, 40, 100, 101])
    canary = draw.choice(found["canaries"])
    for turn in canary["record"]["turns"]:
        turn["text"] += draw.choice(["", " 头", "\n", " \x1b[2J"])
    return found


def claim(draw: random.Random, place: Path, bench: Bench) -> Trial:
    parts = ["eps=3", "delta=1e-5", "unit=record", "relation=add_or_remove"]
    for _ in range(draw.choice([0, 1, 1, 2])):
        at = draw.randrange(len(parts))
        name = draw.choice([parts[at].partition("=")[0], "epsilon", "", "x"])
        parts[at] = f"{name}{draw.choice(['=', '', '==', ' = '])}{draw.choice(fuzzing.VALUES)}"
    said = ",".join(draw.sample(parts, draw.choice([4, 4, 4, 3])))
    if draw.random() < 0.5:
        said = fuzzing.mutated_bytes(said.encode("utf-8", "surrogatepass"), draw).decode(
            "utf-8", "surrogateescape"
        )
    said = said.replace("\0", "")  # no word can hold one
    return Trial(lambda: _verified(said, bench.key))


def _verified(said: str, key_file: Path) -> str:
    """The claim is taken where `verify` goes on to ask for the model."""
    try:
        return typed("verify", "--key", str(key_file), f"--claim={said}")
    except UsageError as error:
        if str(error).startswith("dpaudit verify: expected one of --adapter DIR"):
            return ""
        raise


def scores(draw: random.Random, place: Path, bench: Bench) -> Trial:
    private = secret_text(draw)
    count = draw.choice([0, 19, 40, 100, 100])
    rows: list[Any] = [
        {"score": draw.gauss(index % 2, 1), "included": index % 2 == 1} for index in range(count)
    ]
    if draw.random() < 0.3:
        for row in rows:
            row["note"] = private
    if rows and draw.random() < 0.4:
        rows = _changed(draw, rows)
    kind = draw.choice(["csv", "csv", "parquet"])
    told = _csv(draw, rows, ",,,,;") if kind == "csv" else _table(draw, rows, False)
    if draw.random() < 0.3:
        told = fuzzing.mutated_bytes(told, draw)
    file = place / f"s.{kind}"
    file.write_bytes(told)
    delta, method = (
        draw.choice(["1e-5"] * 14 + ["0", "1", "nan", "-1", "x", ""]),
        draw.choice(["one-run", "one-run", "f-dp", "clopper-pearson", "bayes"]),
    )
    words = ["bound", "scores", str(file), "--delta", delta, "--method", method]
    own = (
        {"--guesses": "1 7 -1 999 x", "--confidence": "0.9 0 1 nan 2"}
        if method in ("one-run", "f-dp")
        else {"--threshold": "0 0.5 nan inf -inf x"}
    )
    for name, values in {**own, "--rate": "0.1 0 2 nan", "--steps": "10 0 -1", "--threshold": "0 x"}.items():
        if draw.random() < (0.3 if name in own else 0.05):
            words.append(f"{name}={draw.choice(values.split())}")
    return Trial(lambda: typed(*words), (private,))


# ---- folders of models and adapters


def _laid_out(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).symlink_to(file)
    return target


def _replaced(file: Path, told: bytes) -> None:
    file.unlink(missing_ok=True)
    file.write_bytes(told)


def _spoilt_json(draw: random.Random, file: Path) -> bytes:
    whole = file.read_bytes()
    change = draw.choice([None, fuzzing.mutated, fuzzing.nudged])
    try:
        return (
            fuzzing.as_json(change(json.loads(whole), draw)) if change else fuzzing.mutated_bytes(whole, draw)
        )
    except (ValueError, RecursionError):  # spoilt before
        return fuzzing.mutated_bytes(whole, draw)


def _spoilt_tensors(draw: random.Random, file: Path) -> bytes:
    """Of a safetensors file the header changed, with its length made again, or any bytes."""
    whole = file.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8].ljust(8, b"x"))
    try:
        told = json.loads(whole[8 : 8 + length]) if draw.random() < 0.6 else None
    except ValueError:  # spoilt before
        told = None
    if told is None:
        return fuzzing.mutated_bytes(whole, draw)
    header = fuzzing.as_json(draw.choice([fuzzing.mutated, fuzzing.nudged])(told, draw))
    size = draw.choice([len(header)] * 8 + [0, 1, 2**40, 2**64 - 1, len(whole)])
    return struct.pack("<Q", size) + header + whole[8 + length :]


def _spoil(draw: random.Random, folder: Path, names: tuple[str, ...]) -> None:
    file = folder / draw.choice([name for name in names if (folder / name).exists()])
    if draw.random() < 0.04:
        file.unlink()
        return
    spoilt = (
        _spoilt_json if file.suffix == ".json" else _spoilt_tensors if file.suffix == ".safetensors" else None
    )
    _replaced(file, spoilt(draw, file) if spoilt else fuzzing.mutated_bytes(file.read_bytes(), draw))


MODEL_FILES = ("config.json", "config.json", "tokenizer.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "model.safetensors", "model.safetensors", "generation_config.json")  # fmt: skip


def model(draw: random.Random, place: Path, bench: Bench) -> Trial:
    folder = _laid_out(bench.model, place / "model")
    for _ in range(draw.choice([1, 1, 2])):
        _spoil(draw, folder, MODEL_FILES)
    private = secret_text(draw)
    asked = Record(
        "r",
        (
            Turn("system", private),
            *(Turn(role, f"{private} {n}") for n in range(2) for role in ("user", "assistant")),
        ),
    )

    def ask() -> str:
        from dpaudit.models import preflight, secret_spans

        preflight.check(str(folder))
        local = secret_spans.open_whole(str(folder))
        list(dialogues.checked([(1, asked)], "data.jsonl", local.tokenizer))
        local.scores([secret_spans.Text("take 500 mg of amber", "amber")])
        return ""

    return Trial(ask, (private,))


def adapter(draw: random.Random, place: Path, bench: Bench) -> Trial:
    folder = _laid_out(bench.adapter, place / "adapter")
    written(folder)
    for _ in range(draw.choice([1, 1, 2])):
        _spoil(
            draw,
            folder,
            (
                "adapter_config.json",
                "adapter_config.json",
                "adapter_model.safetensors",
                "privacy.json",
                "privacy.json",
            ),
        )

    def ask() -> str:
        from dpaudit.models import preflight, secret_spans

        beside.find(folder)
        merge._kept(merge.of_folder(folder, str(bench.model), assume_public=True))
        preflight.check(str(bench.model), adapter=folder)
        audited, _, _ = secret_spans.open_adapter(folder, str(bench.model))
        audited.scores([secret_spans.Text("take 500 mg of amber", "amber")])
        return ""

    return Trial(ask)


KINDS: dict[str, Kind] = {
    "data": data,
    "suite": suites,
    "recipe": recipes,
    "rubric": rubrics,
    "key": key,
    "claim": claim,
    "scores": scores,
    "setting": setting,
    "model": model,
    "adapter": adapter,
}


# ---- the tests


@pytest.fixture(scope="module", autouse=True)
def its_tokenizer_is_read_once(bench: Bench) -> Iterator[None]:
    """No input of kind `data` changes the base, and reading its tokenizer again takes half of the time."""
    own, tokenizer_of = bench.plan.suite.model, corpus.tokenizer_of
    known = cache(lambda: tokenizer_of(own))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "tokenizer_of", lambda model: known() if model == own else tokenizer_of(model))
        yield


@pytest.fixture(scope="module")
def bench(toy_model_dir: Path, toy_adapter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folders = {shape: tmp_path_factory.mktemp(shape) for shape in ("sharegpt", "pair", "text")}
    keys = {shape: planted(folder, shape)[1] for shape, folder in folders.items()}
    plan = plans.resolve("small", {"candidates.canaries": 100, "candidates.records": 2, "data.heldout": 2})
    told = tuple(json.loads(file.read_text()) for file in keys.values())
    return Bench(toy_model_dir, toy_adapter_dir, told, keys["sharegpt"], plan)


def run(kind: str, seed: int, folder: Path, bench: Bench, capfd: pytest.CaptureFixture[str]) -> str:
    """Makes the input of this seed in a folder of its own, and says how it ended."""
    place = folder / str(seed)
    place.mkdir()
    before = Path.cwd()
    os.chdir(place)
    try:
        trial = KINDS[kind](random.Random(f"{kind}/{seed}"), place, bench)
        ended = tried(trial, f"FUZZ={kind}:{seed}")
        check_silent("".join(capfd.readouterr()), trial.private, f"FUZZ={kind}:{seed}, printed")
    finally:
        os.chdir(before)
    shutil.rmtree(place)
    return ended


def all_of(
    kind: str, seeds: range, folder: Path, bench: Bench, capfd: pytest.CaptureFixture[str]
) -> Counter[str]:
    return Counter(run(kind, seed, folder, bench, capfd) for seed in seeds)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_taken_or_refused_in_one_line(
    kind: str, tmp_path: Path, bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = all_of(kind, range(FAST[kind]), tmp_path, bench, capfd)
    assert ended["taken"] > FAST[kind] / 20 and ended["refused"] > FAST[kind] / 20, ended


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first"), [(kind, first) for kind, count in ALL.items() for first in range(0, count, CHUNK)]
)
def test_all_20_000(
    kind: str, first: int, tmp_path: Path, bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    all_of(kind, range(first, min(first + CHUNK, ALL[kind])), tmp_path, bench, capfd)


@pytest.mark.skipif("FUZZ" not in os.environ, reason="for one input again: FUZZ=KIND:SEED")
def test_alone(tmp_path: Path, bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    kind, _, seed = os.environ["FUZZ"].partition(":")
    run(kind, int(seed), tmp_path, bench, capfd)


def test_a_damaged_table_whose_texts_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    """Seed data:4877 and others: PyArrow reads wherever the offsets point, which raises SystemError or ends
    the process.
    """
    import pyarrow as pa

    sink = io.BytesIO()
    table = pa.table({"text": ["a" * 10] * 20})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    whole = sink.getvalue()
    at = whole.index(b"".join((10 * number).to_bytes(4, "little") for number in range(21)))
    (tmp_path / "d.arrow").write_bytes(whole)
    assert len(list(reading.read_records(str(tmp_path / "d.arrow")))) == 20
    (tmp_path / "d.arrow").write_bytes(whole[: at + 40] + struct.pack("<i", -1) + whole[at + 44 :])
    with pytest.raises(UsageError, match="Arrow stream"):
        list(reading.read_records(str(tmp_path / "d.arrow")))


@pytest.mark.parametrize("fault", [KeyError("x"), SystemExit(1), json.JSONDecodeError("x", "y", 0)])
def test_what_an_input_may_not_bring_about_is_a_fault(fault: BaseException) -> None:
    def ask() -> str:
        raise fault

    with pytest.raises(AssertionError):
        tried(Trial(ask), "")


def test_a_word_of_the_data_and_an_endless_command_are_faults() -> None:
    def quotes() -> str:
        raise UsageError("d.jsonl:3", "a role", "'her rash began on Monday'")

    def hangs() -> str:
        while True:
            pass

    assert tried(Trial(quotes, ("his knee hurts on Sunday",)), "") == "refused"
    with pytest.raises(AssertionError, match="rash"):
        tried(Trial(quotes, ("my rash began on a Friday",)), "")
    with pytest.raises(HangError), watched(0.2):
        hangs()
