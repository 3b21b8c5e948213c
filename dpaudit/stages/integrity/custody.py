"""Chain of custody of a run: plan, corpus and coins, and each arm's weights, ledger and steps are those that
belong together.

Every stage asks `require` first. What was altered, exchanged or left in is refused by name with the way out.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.storage import custody, notes
from dpaudit.storage.custody import RELEASE, SEAL_KEY, SEAL_LOST
from dpaudit.storage.rundir import PLAN, RunDir
from dpaudit.storage.seals import seal_key, sealed_under
from dpaudit.suite.plan import Plan

CORPUS = "corpus/manifest.json"
ADAPTER = "adapter_model.safetensors"
INPUTS = (PLAN, CORPUS)
COINS = "secret/coins.json"
COMMITMENT = "secret/commitment.json"  # the salt and the parts, with which anybody can check the commitment
UNSEALED = "hashes agree, seals not checked: custody/seal.key is not there"
GIVEN_UP = "hashes agree, seals not checked: custody/seal.lost says that their key is lost"
SEALED = "hashes and seals agree; the coins are looked at by train and attack alone"


def require(run_dir: RunDir, plan: Plan) -> None:
    """Raises UsageError where the run, or any arm of it that is trained, is not what was written."""
    require_run(run_dir)
    known = {arm.name for arm in plan.suite.grid.arms}
    if run_dir.file(CORPUS).is_file():
        _require_notes(run_dir, known)
    for folder in sorted(run_dir.file("train").glob("[!.]*")):
        if folder.name not in known:
            raise UsageError(
                str(folder),
                f"arms of this run's plan: {', '.join(sorted(known))}",
                "another arm",
                "move it out of the run",
            )
        manifest = require_arm(run_dir, folder.name)
        if manifest["files"][f"adapter/{ADAPTER}"] not in notes.trained(run_dir, folder.name):
            raise run_dir.refused(
                notes.trained_note(folder.name), f"a list without the present weights of {folder.name}"
            )


def _require_notes(run_dir: RunDir, arms: Iterable[str] = ()) -> None:
    for lost in notes.missing(run_dir, arms):
        raise run_dir.refused(lost, "no such file")


def require_run(run_dir: RunDir) -> None:
    """Raises UsageError where the plan or the corpus is not what the run began with. Reads no coin."""
    if not run_dir.file(CORPUS).is_file():
        # a corpus that is drawn again has other coins
        if run_dir.file(RELEASE).is_file() or _has_trained(run_dir):
            raise run_dir.refused(CORPUS, "no such file")
        return
    _require_key(run_dir)
    _require_notes(run_dir)
    manifest = run_dir.read_json(CORPUS)
    _require_mappings(run_dir, CORPUS, manifest, "inputs", "files", "sealed")
    if manifest["inputs"].get(PLAN) != run_dir.digest(PLAN):
        raise run_dir.refused(PLAN, "an altered file", "the plan that the run began with")
    if run_dir.file(RELEASE).is_file() and run_dir.read_json(RELEASE).get("commitment") != manifest.get(
        "commitment"
    ):
        raise run_dir.refused(CORPUS, "a manifest of other coins", f"the manifest that {RELEASE} names")
    if (key := seal_key(run_dir.path)) is None:
        return
    for name, digest in manifest.get("sealed", {}).items():
        if not run_dir.file(name).is_file():
            raise run_dir.refused(name, "no such file")
        if custody.private_digest(run_dir.file(name), key) != digest:
            raise run_dir.refused(name, "an altered file")


def _has_trained(run_dir: RunDir) -> bool:
    arms = [note.stem for note in run_dir.file("custody/trained").glob("*.json")]
    return any(run_dir.file("train").glob("*")) or any(notes.trained(run_dir, arm) for arm in arms)


def _require_mappings(run_dir: RunDir, file: str, content: dict[str, Any], *keys: str) -> None:
    """Raises UsageError for a value that is no mapping: without a seal key anybody can write a right hash."""
    for key in keys:
        if not isinstance(content.get(key, {}), dict):
            raise run_dir.refused(file, f"a file whose {key} are no mapping")


def _require_key(run_dir: RunDir) -> None:
    """Raises UsageError where the key is not the one that sealed; the error names the key, not the files."""
    key, sealing_key_id = seal_key(run_dir.path), sealed_under(run_dir.path, CORPUS)
    if key is not None and sealing_key_id is not None and sealing_key_id != custody.key_id(key):
        raise UsageError(
            str(run_dir.file(SEAL_KEY)),
            f"the key that sealed {CORPUS}",
            "another key",
            f"restore the two from one copy; without {SEAL_KEY} seals are not checked",
        )


def seal_state(run_dir: RunDir) -> str:
    """What a check of this run can show: with its key, seals; without, that hashes agree."""
    if seal_key(run_dir.path) is not None:
        return SEALED
    return GIVEN_UP if run_dir.file(SEAL_LOST).exists() else UNSEALED


# ---- arms


def manifest_file(arm: str) -> str:
    return f"train/{arm}/manifest.json"


def require_if_arms(adapter: Path) -> None:
    """Raises UsageError for an adapter folder that lies in a run and is not what its arm's manifest binds;
    others pass.
    """
    arm = adapter.absolute().parent
    run_dir = RunDir(arm.parent.parent)
    if arm.parent.name == "train" and run_dir.file(PLAN).is_file():
        require_run(run_dir)
        require_arm(run_dir, arm.name)


def write_arm(run_dir: RunDir, folder: Path, arm: str, inputs: tuple[str, ...], begun: str) -> None:
    """Binds all that stands in an arm's folder, before it gets its name, to the plan, the coins and what it
    began with.

    `begun` is the digest of the weights that the arm began with.
    """
    file = (folder / "manifest.json").relative_to(run_dir.path).as_posix()
    coins = run_dir.read_json(CORPUS)["files"][COINS]
    run_dir.write_json(
        file, {"arm": arm, "files": custody.folder_digests(folder), "coins": coins, "begun": begun}, inputs
    )


def require_arm(run_dir: RunDir, arm: str) -> dict[str, Any]:
    """The manifest of a trained arm. Raises UsageError where a file of it is missing, altered, foreign, or
    another arm's.
    """
    file, folder = manifest_file(arm), run_dir.file(f"train/{arm}")
    if not run_dir.file(file).is_file():
        raise run_dir.refused(file, "no such file")
    manifest = run_dir.read_json(file)
    if not {"arm", "files", "inputs"} <= set(manifest):
        raise run_dir.refused(file, "a manifest without some of its keys")
    _require_mappings(run_dir, file, manifest, "files", "inputs")
    if manifest["arm"] != arm:
        raise run_dir.refused(file, f"the manifest of {manifest['arm']}")
    require_files(run_dir, f"train/{arm}", manifest["files"], {"manifest.json"})
    recorded = manifest["inputs"]
    if run_dir.file(CORPUS).is_file() and any(recorded.get(name) != run_dir.digest(name) for name in INPUTS):
        raise run_dir.refused(file, "a manifest of another plan or corpus")
    assert folder.is_dir()
    return manifest


def require_files(run_dir: RunDir, folder: str, known: dict[str, str], beside: set[str]) -> None:
    """Raises UsageError unless a folder of the run holds exactly the files in `known` (path -> SHA-256) and
    those `beside` them.

    Hidden files are ignored: no library reads them.
    """
    digests = custody.folder_digests(run_dir.file(folder))
    for name in sorted({*known, *digests} - beside):
        place = f"{folder}/{name}"
        if name not in digests:
            raise run_dir.refused(place, "no such file")
        if name not in known:
            if Path(name).name.startswith("."):
                continue
            raise UsageError(
                str(run_dir.file(place)),
                "files that this run wrote",
                "another file",
                "move it out of the folder",
            )
        if digests[name] != known[name]:
            raise run_dir.refused(place, "an altered file")


def adapter_digest(run_dir: RunDir, arm: str) -> str:
    """SHA-256 of an arm's weights."""
    return str(require_arm(run_dir, arm)["files"]["adapter/adapter_model.safetensors"])


# ---- the commitment: what was fixed before training, to be noted down outside of the trainer's reach


def committed(run_dir: RunDir, recipes: dict[str, str]) -> dict[str, Any]:
    """What a run commits to: its plan, the digests of the attack recipes, its coins, and which key seals its
    files.
    """
    coins = custody.file_digest(run_dir.file(COINS))
    # a missing key is still known by its id
    key = custody.key_id(seal_key(run_dir.path)) or sealed_under(run_dir.path, CORPUS)
    return {
        "plan": custody.file_digest(run_dir.file(PLAN)),
        "recipes": recipes,
        "coins": coins,
        "seal_key": key,
    }


def commitment_of(run_dir: RunDir) -> str:
    """The commitment as plan, recipes and coins have it now. Raises UsageError where its salt is gone.

    Reads coins: for stages train and audit and for `verify`.
    """
    if not run_dir.file(COMMITMENT).is_file():
        raise UsageError(
            str(run_dir.file(COMMITMENT)),
            "the salt of the commitment",
            "no such file",
            "restore it from a copy: without it no commitment can be compared",
        )
    opening = run_dir.read_json(COMMITMENT)
    return custody.commitment(opening["salt"], committed(run_dir, _present(opening["recipes"])))


def _present(recipes: dict[str, str]) -> dict[str, str]:
    """The digests that the recipes of these names have now; empty for a recipe that is gone."""
    from dpaudit.signals import recipe

    now = {made_by.name: made_by.digest for made_by in recipe.load_all()}
    return {name: now.get(name, "") for name in recipes}


def noted(run_dir: RunDir, commitment: str) -> dict[str, str]:
    """Whether a commitment that was noted down before the training is the run's commitment now."""
    return custody.noted(commitment_of(run_dir), commitment)


# ---- an adapter that lies elsewhere


def origins(adapter: Path, runs: list[RunDir]) -> list[dict[str, Any]]:
    """The arms, of all these runs, whose weights and settings an adapter folder holds.

    Raises UsageError where no arm has these weights, and where the settings or a ledger beside them do not
    belong to the weights.
    """
    from dpaudit.privacy import beside

    folder = adapter if (adapter / ADAPTER).is_file() else adapter / "adapter"
    if not (folder / ADAPTER).is_file():
        raise beside.no_adapter(adapter, ADAPTER)
    digest = custody.file_digest(folder / ADAPTER)
    arms = [
        (run, file.parent.name) for run in runs for file in sorted(run.file("train").glob("*/manifest.json"))
    ]
    same = [
        (run, arm)
        for run, arm in arms
        if run.read_json(manifest_file(arm))["files"].get(f"adapter/{ADAPTER}") == digest
    ]
    if not same:
        raise UsageError(
            str(folder / ADAPTER),
            "the weights of an arm of a run here",
            "other weights",
            "name the folder of its run with --runs; an altered adapter belongs to no arm",
        )
    return [_origin(folder, digest, run, arm) for run, arm in same]


def _origin(folder: Path, digest: str, run_dir: RunDir, arm: str) -> dict[str, Any]:
    from dpaudit.privacy import beside, ledger

    require_run(run_dir)
    known = require_arm(run_dir, arm)["files"]
    beside_it = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    # each of these files can make it another model
    for name in sorted({"adapter_config.json", *beside_it} - {"README.md", ledger.FILE}):
        if not (folder / name).is_file() or custody.file_digest(folder / name) != known.get(
            f"adapter/{name}"
        ):
            raise UsageError(
                str(folder / name),
                f"the file of {run_dir.name}, {arm}",
                "an altered or missing file",
                f"copy it from {run_dir.file(f'train/{arm}/adapter')}, or move it out",
            )
    copy, own = beside.find(folder), ledger.of_arm(run_dir, arm)
    if copy is not None and custody.canonical(copy.to_json()) != custody.canonical(own.to_json()):
        raise UsageError(
            str(copy.file),
            f"the ledger of {run_dir.name}, {arm}",
            "another ledger",
            f"copy it from {run_dir.file(f'train/{arm}')}",
        )
    return {
        "run": run_dir.name,
        "arm": arm,
        **own.to_json()["claim"],
        "epsilon_spent": own.figures()["epsilon_spent"],
        "sha256": digest,
        "ledger_beside": copy is not None,
        "custody": seal_state(run_dir),
    }
