"""What a run had, noted apart from it: the results of its stages, the weights of its arms, that its coins
were drawn.

A note shows what was deleted. All notes stand, empty, before a run has coins; from then on a missing note is
a lost one.
"""

from collections.abc import Iterable

from dpaudit.storage import record_chain
from dpaudit.storage.custody import RELEASE
from dpaudit.storage.exclusive import writing
from dpaudit.storage.record_chain import Loss
from dpaudit.storage.rundir import NOTED, RunDir, results_note


def trained_note(arm: str) -> str:
    return f"custody/trained/{arm}.json"


def begin(run_dir: RunDir, arms: Iterable[str]) -> None:
    """Writes the notes of a run that has no coins yet."""
    for stage in NOTED:
        if not run_dir.file(results_note(stage)).is_file():
            run_dir.write_json(results_note(stage), {"files": []})
    for arm in arms:
        if not run_dir.file(trained_note(arm)).is_file():
            run_dir.write_json(trained_note(arm), {"adapters": []})


def missing(run_dir: RunDir, arms: Iterable[str] = ()) -> list[str]:
    """The notes that a run with a corpus should have and has not."""
    wanted = [results_note(stage) for stage in NOTED] + [trained_note(arm) for arm in arms]
    if any(run_dir.file("train").glob("*")):
        wanted.append(RELEASE)  # written between the corpus and the first training
    return [file for file in wanted if not run_dir.file(file).is_file()]


def mend(run_dir: RunDir, arms: Iterable[str], commitment: object, date: str) -> list[str]:
    """Writes the lost notes of a run again, from what is there, and their loss into its records; returns
    them.
    """
    lost = missing(run_dir, arms)
    for file in lost:
        with writing(run_dir, "records"):
            record_chain.note_loss(run_dir, Loss(file, date))
        if file == RELEASE:
            run_dir.write_json(file, {"commitment": commitment})
        elif file.startswith("custody/trained/"):
            run_dir.write_json(file, {"adapters": _weights_of(run_dir, file)})
        else:
            _mend_results(run_dir, file)
    return lost


def _weights_of(run_dir: RunDir, note: str) -> list[str]:
    """The weights that an arm has now, by its manifest."""
    manifest = f"train/{run_dir.file(note).stem}/manifest.json"
    if not run_dir.file(manifest).is_file():
        return []
    return [run_dir.read_json(manifest)["files"]["adapter/adapter_model.safetensors"]]


def _mend_results(run_dir: RunDir, note: str) -> None:
    stage = run_dir.file(note).parent.name
    with writing(run_dir, stage):
        run_dir.write_json(note, {"files": run_dir.notable(stage)})


def trained(run_dir: RunDir, arm: str) -> list[str]:
    """SHA-256 of all weights that an arm ever had; of weights on their way into the run, too."""
    note = trained_note(arm)
    return run_dir.texts(note, "adapters") if run_dir.file(note).is_file() else []


def note_trained(run_dir: RunDir, arm: str, digest: str) -> None:
    """Writes down which weights an arm is about to have: new ones in their place are a second release."""
    known = trained(run_dir, arm)
    if digest not in known:
        run_dir.write_json(trained_note(arm), {"adapters": [*known, digest]})
