"""Stage prepare: the corpus, the canaries, and the coins that decide who is a member."""

import secrets
from collections.abc import Iterator
from typing import Any

from dpaudit.data import clinic
from dpaudit.data.corpus_store import PARTS, CorpusStore
from dpaudit.data.reading import is_hub_id
from dpaudit.errors import UsageError
from dpaudit.stages.integrity import custody, siblings
from dpaudit.stages.prepare import axes, same_data
from dpaudit.stages.prepare.axes import Axes
from dpaudit.stages.prepare.corpus import FAULTS, load_corpus, rows_to_read
from dpaudit.stages.prepare.draw import draw
from dpaudit.stages.prepare.lessons import Shares, expected_units
from dpaudit.storage import notes
from dpaudit.storage.custody import RELEASE, commitment, key_id, keyed_file_digest, private_digest
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import path_or_builtin
from dpaudit.system.progress import Progress

CANARIES_MANY = 0.2  # of the units, from which on quality is cautioned of
FILES = (
    "corpus/candidates.jsonl",
    "corpus/heldout.jsonl",
    "corpus/heldout_pairs.jsonl",
    "corpus/choices.jsonl",
    "secret/coins.json",
)


def run(run_dir: RunDir, plan: Plan, progress: Progress) -> None:
    """Writes corpus/ and secret/ once. A later call checks that they, and the data file, are still the
    same.
    """
    custody.require_run(run_dir)
    if run_dir.file("corpus/manifest.json").is_file():
        check_unchanged(run_dir, plan)
        _note_release(run_dir)
        return
    notes.begin(run_dir, (arm.name for arm in plan.suite.grid.arms))
    with (
        run_dir.work_folder("corpus") as folder,
        progress.task("preparing corpus and coins", total=rows_to_read(plan)) as advance,
    ):
        corpus = load_corpus(plan, folder, advance)
        rows, coins, coin = draw(plan, corpus)
        shares = Shares(plan.suite.training.unit)
        run_dir.write_lines("corpus/candidates.jsonl", shares.passing(rows))
        inside = axes.needed(plan, _counts(run_dir, plan))
        coins |= {name: coin.random() < 0.5 for name in axes.axis_names(inside.count)}
        write_secrets(run_dir, coins)
        run_dir.write_lines("corpus/heldout.jsonl", corpus.heldout)
        run_dir.write_lines("corpus/heldout_pairs.jsonl", corpus.heldout_pairs)
        choices = clinic.choices() if plan.suite.data.source == "builtin:clinic" else []
        run_dir.write_lines("corpus/choices.jsonl", choices)
        made = manifest(run_dir, plan, corpus, len(coins), inside, shares)
        made["commitment"] = _commit(run_dir)
        run_dir.write_json("corpus/manifest.json", made, inputs=["plan.json"])
        _note_release(run_dir)
    if plan.suite.data.preference == "faults":
        progress.say("preference pairs: made from the dialogues, by planting a fault in each answer")
    if inside.short:
        progress.say(f"canaries along axes of the weights: {inside.count}; {inside.short}")
    for note in (*corpus.notes, *_many_canaries(shares)):
        progress.say(note)
    if corpus.over_cap:
        progress.say(f"dropped by training.records_per_patient: {corpus.over_cap} records")


def _many_canaries(shares: Shares) -> Iterator[str]:
    for method, share in shares.by_method().items():
        if share["units"] > CANARIES_MANY:
            yield (
                f"note: {share['units']:.0%} of the units of {method} are canaries: quality figures are of a "
                "model that learned from them too; take more data, or fewer (--set candidates.canaries=N)"
            )


def _note_release(run_dir: RunDir) -> None:
    """Writes down, apart from corpus/ and train/, that coins were drawn: where both are lost, new coins are
    a second release.
    """
    if not run_dir.file(RELEASE).is_file():
        noted = run_dir.read_json("corpus/manifest.json").get("commitment")
        run_dir.write_json(RELEASE, {"commitment": noted})


def _commit(run_dir: RunDir) -> str:
    """The commitment to plan, recipes and coins; what opens it is kept with the coins."""
    from dpaudit.signals import recipe  # it loads NumPy

    recipes = {made_by.name: made_by.digest for made_by in recipe.load_all()}
    salt = secrets.token_hex(32)
    run_dir.write_json(custody.COMMITMENT, {"salt": salt, "recipes": recipes})
    run_dir.file(custody.COMMITMENT).chmod(0o600)
    return commitment(salt, custody.committed(run_dir, recipes))


def write_secrets(run_dir: RunDir, coins: dict[str, bool]) -> None:
    folder = run_dir.file("secret")
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    run_dir.secret_file("hash.key").write_bytes(secrets.token_bytes(32))
    run_dir.write_json("secret/coins.json", {"coins": coins})
    for name in ("hash.key", "coins.json"):
        run_dir.secret_file(name).chmod(0o600)


def _counts(run_dir: RunDir, plan: Plan) -> dict[str, int]:
    """The expected number of units of each lesson of the private arms."""
    unit = plan.suite.training.unit
    lessons = {arm.lesson: arm for arm in plan.suite.grid.arms if arm.private}
    return {name: expected_units(run_dir, arm.method, unit, arm.twin) for name, arm in lessons.items()}


def manifest(
    run_dir: RunDir, plan: Plan, corpus: CorpusStore, coins: int, inside: Axes, shares: Shares
) -> dict[str, Any]:
    """Keyed digests and counts, public enough to be an input of every later stage; `coins` is the
    number of coins.

    `units` is the expected number of units trained on; it does not depend on how the coins fell.
    """
    wanted = plan.suite.candidates
    flipped = coins - wanted.canaries - wanted.extraction - inside.count
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
            "gradient": inside.count,
            **{part: corpus.count(part) for part in PARTS},
            "heldout": len(corpus.heldout),
            "heldout_pairs": len(corpus.heldout_pairs),
            "over_cap": corpus.over_cap,
            "patients": corpus.people()[0],
        },
        "scripts": dict(corpus.scripts.most_common()),
        "axes_short": inside.short,
        siblings.SAME_DATA: same_data.names(run_dir, plan),
        "units": certain + int(flipped / 2 + shares.canary_units),
        "canary_share": shares.by_method(),
    }


def _sealed(run_dir: RunDir) -> dict[str, str]:
    """Digests of the prepared files but the coins under the key of the seals, for stages that may not open
    secret/.
    """
    key = seal_key(run_dir.path)
    if key is None:
        return {}
    return {name: private_digest(run_dir.file(name), key) for name in FILES if name != custody.COINS}


def source_digests(run_dir: RunDir, plan: Plan) -> dict[str, str]:
    """Keyed digests of the data files and folders that the plan names; of a hub data set none is taken."""
    data = plan.suite.data
    named = [
        source
        for source in (data.source, data.preference, data.text)
        if source and source != FAULTS and not is_hub_id(source)
    ]
    paths = [path for source in named if (path := path_or_builtin(source))]
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
