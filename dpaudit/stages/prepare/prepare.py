"""Stage prepare: the corpus, the canaries, and the coins that decide who is a member."""

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.data import canary, clinic
from dpaudit.data.canary import Canary
from dpaudit.data.columns import plain_names
from dpaudit.data.corpus import Part, Record, as_text, unit_note
from dpaudit.data.corpus_store import PARTS, CorpusStore
from dpaudit.data.reading import is_hub_id, read_records
from dpaudit.data.row_reader import Reader
from dpaudit.errors import UsageError
from dpaudit.judging import rubric
from dpaudit.stages.integrity import custody
from dpaudit.stages.prepare import dialogues, sources
from dpaudit.stages.prepare.lessons import METHODS, Shares, examples_of
from dpaudit.storage.custody import RELEASE, commitment, key_id, keyed_file_digest, private_digest
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key
from dpaudit.suite import suite
from dpaudit.suite.grid import Method
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

FILES = ("corpus/candidates.jsonl", "corpus/heldout.jsonl", "corpus/choices.jsonl", "secret/coins.json")
WANTED = {
    "records": "dialogues to fine-tune on",
    "pairs": "prompt, chosen and rejected in every row",
    "texts": "plain text in every row",
}
SEEN = {"records": "dialogues", "pairs": "preference pairs", "texts": "plain text"}
FAULTS = "faults"  # data.preference: pairs made from the dialogues themselves
ALONE = ("swapped dose", "negated warning", "cut short")  # faults that need no other record, the rarest first
OWN = {
    "pairs": "--set data.preference=FILE, or =faults to make pairs from the dialogues, or no DPO arms: --set "
    "data.preference=null --set grid.dpo=[]",
    "texts": "--text FILE",
}


@dataclass(frozen=True)
class Candidates:
    """All units whose membership a coin decided, without the coins."""

    canaries: list[Canary]  # purposes mia and extraction
    records: dict[str, list[Record]]  # unit id -> its dialogues
    pairs: dict[str, list[Record]]
    texts: dict[str, list[Record]]


def run(run_dir: RunDir, plan: Plan, progress: Progress) -> None:
    """Writes corpus/ and secret/ once. A later call checks that they, and the data file, are still the
    same.
    """
    custody.require_run(run_dir)
    if run_dir.file("corpus/manifest.json").is_file():
        check_unchanged(run_dir, plan)
        _note_release(run_dir)
        return
    with (
        run_dir.work_folder("corpus") as folder,
        progress.task("preparing corpus and coins", total=1) as advance,
    ):
        corpus = load_corpus(plan, folder)
        rows, coins = draw(plan, corpus)
        write_secrets(run_dir, coins)
        shares = Shares(plan.suite.training.unit)
        run_dir.write_lines("corpus/candidates.jsonl", shares.passing(rows))
        run_dir.write_lines("corpus/heldout.jsonl", corpus.heldout)
        choices = clinic.choices() if plan.suite.data.source == "builtin:clinic" else []
        run_dir.write_lines("corpus/choices.jsonl", choices)
        made = manifest(run_dir, plan, corpus, len(coins)) | {"canary_share": shares.by_method()}
        made["commitment"] = _commit(run_dir)
        run_dir.write_json("corpus/manifest.json", made, inputs=["plan.json"])
        _note_release(run_dir)
        advance(1)
    if plan.suite.data.preference == "faults":
        progress.say("preference pairs: made from the dialogues, by planting a fault in each answer")
    for note in corpus.notes:
        progress.say(note)
    if corpus.over_cap:
        progress.say(f"dropped by training.records_per_patient: {corpus.over_cap} records")


def _note_release(run_dir: RunDir) -> None:
    """Writes down, apart from corpus/ and train/, that coins were drawn: where both are lost, others are a
    second release.
    """
    if not run_dir.file(RELEASE).is_file():
        noted = run_dir.read_json("corpus/manifest.json").get("commitment")
        run_dir.write_json(RELEASE, {"commitment": noted})


def _commit(run_dir: RunDir) -> str:
    """The commitment to plan, recipes and coins; what opens it is kept with the coins."""
    from dpaudit.signals import recipe  # it loads NumPy

    recipes = {one.name: one.digest for one in recipe.load_all()}
    salt = secrets.token_hex(32)
    run_dir.write_json(custody.COMMITMENT, {"salt": salt, "recipes": recipes})
    run_dir.file(custody.COMMITMENT).chmod(0o600)
    return commitment(salt, custody.committed(run_dir, recipes))


def load_corpus(plan: Plan, folder: Path | None = None) -> CorpusStore:
    """The plan's records, pairs, texts and held-out records, in a work file in `folder`. Raises UsageError
    with file and line.
    """
    data, training = plan.suite.data, plan.suite.training
    is_clinic = data.source == "builtin:clinic"
    source = f"builtin:clinic seed {plan.seed}" if is_clinic else data.source
    corpus = CorpusStore(source, training.unit, folder)
    tokenizer = tokenizer_of(plan.suite.model)
    named: dict[Part, str | None] = {"records": data.source, "pairs": data.preference, "texts": data.text}
    for part, origin in named.items():
        if origin is None:
            continue
        reader, read_from = Reader(), data.source if origin == FAULTS else origin
        found = rows_of(plan, part, origin, reader)
        corpus.add(part, dialogues.checked(found, read_from, tokenizer), read_from)
        if reader.unread and origin != FAULTS:
            corpus.notes.append(f"{origin}: columns that are not used: {plain_names(sorted(reader.unread))}")
    corpus.index()
    if not is_clinic and (note := unit_note(training.unit, *corpus.people())):
        corpus.notes.append(note)
    if training.records_per_patient is not None:
        corpus.cap(training.records_per_patient, plan.seed)
    if is_clinic:
        corpus.heldout = [r.to_json() for r in clinic.heldout_records(plan.seed, data.patients, data.heldout)]
    else:
        corpus.hold_out(data.heldout, plan.seed)
    return corpus


def rows_of(
    plan: Plan, part: Part, origin: str, reader: Reader | None = None
) -> Iterator[tuple[int, Record]]:
    """The numbered records of one kind of data, read from their start."""
    data, reader = plan.suite.data, reader or Reader()
    if origin == "builtin:clinic":
        return _clinic(plan, part)
    if origin == FAULTS and part == "pairs":
        return _planted(_read("records", data.source, data, reader))
    return _read(part, origin, data, reader)


def tokenizer_of(model: suite.Model) -> Any:
    """The model's tokenizer, whose chat template every row has to pass; None for a model that only a forecast
    is made of.
    """
    from dpaudit.models import tokenizers

    return None if model.shape else tokenizers.tokenizer_of(model)


def _clinic(plan: Plan, part: Part) -> Iterator[tuple[int, Record]]:
    """One part of the synthetic clinic. Raises UsageError where the dialogues are somebody else's."""
    data = plan.suite.data
    if data.source != "builtin:clinic":
        key = {"pairs": "preference", "texts": "text"}.get(part, "source")
        raise UsageError(f"data.{key}", "a file beside a data file", "builtin:clinic", OWN[part])
    people = (clinic.told(clinic.patient(plan.seed, index)) for index in range(data.patients))
    if part == "pairs":
        return enumerate(pair for _, pair in people)
    records = (record for records, _ in people for record in records)
    return enumerate(records if part == "records" else map(as_text, records))


def _read(part: Part, source: str, data: suite.Data, reader: Reader) -> Iterator[tuple[int, Record]]:
    """The records of a file, which must be of this part; `data.rows` and `data.limit` are for the dialogues
    alone.
    """
    is_source = part == "records"
    for line, record in read_records(
        source, data.rows if is_source else None, data.limit if is_source else None, reader
    ):
        if record.part != part:
            raise UsageError(
                source,
                WANTED[part],
                SEEN[record.part],
                "name pairs with data.preference and plain text with data.text",
            )
        yield line, record


def _planted(records: Iterator[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
    """A pair of every dialogue with an answer that a fault can be planted in: as it is, and with the fault.

    It has the dialogue's id, so that both are one unit: one coin, and held out together. The fault comes from
    the answer alone and never from other records: a pair is its own patient's and nobody else's.
    """
    for line, record in records:
        question, right = rubric.question_of(record.turns[:-1]), record.turns[-1].text
        found = (rubric.FAULTS[name](question, right, ()) for name in ALONE)
        wrong = next((text for text in found if text and text.strip() and text != right), None)
        if wrong is not None and len(record.turns) > 1:
            yield line, Record(record.id, record.turns[:-1], record.patient, right, wrong)


def draw(plan: Plan, corpus: CorpusStore) -> tuple[Iterator[dict[str, Any]], dict[str, bool]]:
    """The rows of candidates.jsonl, to be read once, and the coin of each unit that has one.

    Membership coins are fair and independent; all canaries are drawn before the first of them. Of the
    extraction canaries of one number of copies exactly half, drawn at random, are planted.
    """
    wanted = plan.suite.candidates
    coin = (
        secrets.SystemRandom() if plan.insecure_seed is None else random.Random(f"coins/{plan.insecure_seed}")
    )
    taken: set[str] = set()
    members, planted = _canaries(plan, sources.of(plan, corpus), taken)
    coins = {c.id: coin.random() < 0.5 for c in members}
    coins |= _halves(planted, coin)
    if any(corpus.has_unit(name) for name in (*coins, *axis_names(wanted.gradient))):
        raise UsageError(
            "data: ids",
            "no unit with the name of a canary",
            "a unit with such a name",
            "rename units that begin with mia, extraction or axis",
        )
    flipped = _flipped(plan, corpus)
    coins |= {name: coin.random() < 0.5 for name in flipped}
    if wanted.gradient:
        coins |= {name: coin.random() < 0.5 for name in axis_names(wanted.gradient)}
    return _rows(plan, corpus, [*members, *planted], set(flipped)), coins


def _flipped(plan: Plan, corpus: CorpusStore) -> list[str]:
    """The units of the data that have a coin: `candidates.records` of those that arms learn from.

    So many of each part that is learnt: a unit that holds a dialogue and a preference pair counts in both,
    and where they are units apart, such as under unit record, further ones are drawn.
    """
    wanted, methods = plan.suite.candidates.records, {arm.method for arm in plan.suite.grid.arms}
    if plan.suite.training.unit == "label":
        return []  # it hides no membership, and a pair that is left out teaches nothing
    flipped: list[str] = []
    for part in (part for part in PARTS if METHODS[part] in methods and corpus.unit_count(part)):
        units, held = corpus.unit_count(part), sum(bool(corpus.rows_of(name)[part]) for name in flipped)
        if wanted > units // 2 and not flipped:
            raise UsageError(
                "candidates.records",
                f"at most half of the {units} units with {SEEN[part]}",
                str(wanted),
                f"--set candidates.records={units // 2}",
            )
        if (more := min(wanted, units // 2) - held) > 0:
            flipped += corpus.sample_units(more, f"candidates/{plan.seed}", part, set(flipped))
    return flipped


def _canaries(plan: Plan, found: canary.Sources, taken: set[str]) -> tuple[list[Canary], list[Canary]]:
    """Those for membership and those for extraction, of one family; their surnames are added to `taken`."""
    wanted, seed = plan.suite.candidates, str(plan.seed)

    def drawn(purpose: str, count: int, length: int, copies: Sequence[int]) -> list[Canary]:
        return canary.draw(wanted.family, count, length, copies, purpose, taken, seed, found) if count else []

    members = drawn("mia", wanted.canaries, wanted.canary_length, (wanted.canary_repetitions,))
    planted = drawn("extraction", wanted.extraction, wanted.extraction_length, wanted.levels)
    return members, planted


def _halves(planted: list[Canary], coin: random.Random) -> dict[str, bool]:
    """Extraction canary -> whether it is planted: half of those of each number of copies, rounded down."""
    found: dict[str, bool] = {}
    for copies in dict.fromkeys(one.repetitions for one in planted):
        level = [one.id for one in planted if one.repetitions == copies]
        chosen = set(coin.sample(range(len(level)), len(level) // 2))
        found |= {name: i in chosen for i, name in enumerate(level)}
    return found


def axis_names(count: int) -> list[str]:
    """What the coins call the canaries along axes of the weights."""
    return [f"axis-{number:06d}" for number in range(count)]


def _rows(
    plan: Plan, corpus: CorpusStore, canaries: Sequence[Canary], flipped: set[str]
) -> Iterator[dict[str, Any]]:
    """Canaries first, then every unit; `texts` is there where the plan has plain text."""
    parts = [part for part in PARTS if part != "texts" or plan.suite.data.text is not None]
    yield from canary.to_rows(canaries)
    for name, rows in corpus.units():
        kind = "record" if name in flipped else "certain"
        yield {"kind": kind, "id": name, **{part: rows[part] for part in parts}}


def write_secrets(run_dir: RunDir, coins: dict[str, bool]) -> None:
    folder = run_dir.file("secret")
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    run_dir.secret_file("hash.key").write_bytes(secrets.token_bytes(32))
    run_dir.write_json("secret/coins.json", {"coins": coins})
    for name in ("hash.key", "coins.json"):
        run_dir.secret_file(name).chmod(0o600)


def manifest(run_dir: RunDir, plan: Plan, corpus: CorpusStore, coins: int) -> dict[str, Any]:
    """Keyed digests and counts, public enough to be an input of every later stage; `coins` is how many were
    thrown.

    `units` is the expected number of units trained on; it does not depend on how the coins fell.
    """
    wanted = plan.suite.candidates
    flipped = coins - wanted.canaries - wanted.extraction - wanted.gradient
    certain = corpus.unit_count() - flipped
    return {
        "source": corpus.source,
        "files": {name: run_dir.keyed_digest(name) for name in FILES},
        "hash_key": key_id(run_dir.hash_key()),
        "sealed": _sealed(run_dir),
        "sources": source_digests(run_dir, plan),
        "counts": {
            "certain": certain,
            "record": flipped,
            "mia": wanted.canaries,
            "extraction": wanted.extraction,
            "gradient": wanted.gradient,
            **{part: corpus.count(part) for part in PARTS},
            "heldout": len(corpus.heldout),
            "over_cap": corpus.over_cap,
        },
        "units": certain + (flipped + wanted.canaries + wanted.extraction) // 2,
    }


def _sealed(run_dir: RunDir) -> dict[str, str]:
    """Digests of the prepared files but the coins under the key of the seals, for stages that may not open
    secret/.
    """
    key = seal_key(run_dir.path)
    return (
        {name: private_digest(run_dir.file(name), key) for name in FILES if name != custody.COINS}
        if key
        else {}
    )


def source_digests(run_dir: RunDir, plan: Plan) -> dict[str, str]:
    """Keyed digests of the data files and folders that the plan names; of a hub data set none is taken."""
    data = plan.suite.data
    named = [
        source
        for source in (data.source, data.preference, data.text)
        if source and source != FAULTS and not is_hub_id(source)
    ]
    paths = [path for source in named if (path := suite.path_or_builtin(source))]
    key = run_dir.hash_key()
    return {str(path): keyed_file_digest(path, key) for path in paths}


def check_unchanged(run_dir: RunDir, plan: Plan) -> None:
    """Raises UsageError where a data file or a prepared file is not what the run began with."""
    check_prepared(run_dir)
    _compare(run_dir, "sources", source_digests(run_dir, plan))


def check_prepared(run_dir: RunDir) -> None:
    """Raises UsageError where the candidates, the coins or another prepared file was changed."""
    custody.require_run(run_dir)
    known = run_dir.read_json("corpus/manifest.json").get("hash_key")
    if known != key_id(run_dir.hash_key()):
        raise UsageError(
            str(run_dir.secret_file("hash.key")),
            "the key that this run started with",
            "another key",
            f"restore it from a copy, or delete {run_dir.path} to start again: a second release on the same "
            f"records",
        )
    if run_dir.file(custody.COMMITMENT).is_file():  # where it is lost, only `verify --commitment` lacks it
        run_dir.read_json(custody.COMMITMENT)
    _compare(run_dir, "files", {name: run_dir.keyed_digest(name) for name in FILES})


def _compare(run_dir: RunDir, part: str, now: dict[str, str]) -> None:
    known = run_dir.read_json("corpus/manifest.json")[part]
    for name, digest in now.items():
        if known.get(name) != digest:
            where = str(run_dir.file(name)) if part == "files" else name
            raise UsageError(
                where,
                "the file that this run started with",
                "a changed file",
                f"restore it, or delete {run_dir.path} to start again: a second release on the same records",
            )


def load_candidates(run_dir: RunDir) -> Candidates:
    """Everything that a coin decided, without the coins: what the attack stage may see."""
    found = Candidates([], {}, {}, {})
    drawn = []
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if row["kind"] in ("alphabet", "canary"):
            drawn.append(row)
        elif row["kind"] == "record":
            for part in PARTS:
                getattr(found, part)[row["id"]] = [Record.from_json(r) for r in row.get(part, [])]
    found.canaries.extend(canary.from_rows(drawn))
    return found


def load_membership(run_dir: RunDir) -> dict[str, bool]:
    """Unit or canary id -> whether it was trained on. For the stages train and audit only."""
    return dict(run_dir.read_json(custody.COINS)["coins"])


def load_training(run_dir: RunDir, method: Method, twin: bool = False) -> Iterator[Record]:
    """The dialogues (`sft`), preference pairs (`dpo`) or texts (`cpt`) of every unit that is in, a unit's own
    in a row.

    A `twin` learns from all of them but the canaries. For the stage train only.
    """
    coins = load_membership(run_dir)
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if twin and row["kind"] == "canary":
            continue
        if coins.get(row["id"], row["kind"] == "certain"):
            yield from examples_of(row, method)
