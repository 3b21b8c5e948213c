"""Two processes train as one does: same units, same noise once, same weights up to rounding. The commands
under torchrun itself are slow.
"""

import json
import math
import multiprocessing
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds

from dpaudit.errors import UsageError
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.suite.suite import Schedule
from dpaudit.training import dpsgd, loop
from dpaudit.training.ranks import Ranks, of_environment

HERE = Path(__file__).parent
UNITS, STEPS = 40, 6
RATES = {"many": 0.4, "few": 0.03}  # at the second, of six steps one is empty and others have one unit
TIMEOUT = 300


def trained(privately: bool, rate: float, ranks: Ranks) -> dict[str, Any]:
    """Weights, units and losses of a few steps on the world's model."""
    model = worlds.lora_model()
    batch = max(1, round(rate * UNITS))
    mechanism = Mechanism(*((1.0, rate, STEPS, 0.3) if privately else (0.0, rate, STEPS, math.inf)))
    # The draw and the noise are the first process's: what another one would draw by itself must not matter.
    secret = 4 if ranks.first else 1000 + ranks.rank
    done = loop.train(
        model,
        worlds.record_units(UNITS),
        Schedule(batch, STEPS, 0.01),
        mechanism,
        sampling=dpsgd.sampling_generator(secret),
        noise=dpsgd.noise_generator(torch.device("cpu"), secret),
        micro_batch=8,
        ranks=ranks,
    )
    weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    return {
        "weights": weights,
        "units": [s.units for s in done.steps],
        "losses": [s.loss for s in done.steps],
        "clipped": [s.clipped_share for s in done.steps],
    }


CASES = [(privately, rate) for privately in (True, False) for rate in RATES.values()]


def in_ranks(rank: int, port: int, folder: Path) -> None:
    """What each process of `joined` does, in the environment that torchrun gives it."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""}
    ranks = of_environment()
    torch.save([trained(*case, ranks) for case in CASES], folder / f"{ranks.rank}.pt")
    ranks.wait()


def torchrun(*words: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    return subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        text=True,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What two processes made of every case: process, then case."""
    folder = tmp_path_factory.mktemp("ranks")
    worlds.lora_model()  # loads the libraries, once for both
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    forked = multiprocessing.get_context("fork")
    processes = [forked.Process(target=in_ranks, args=(rank, port, folder), daemon=True) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{p}-{r}" for p, r in CASES])
def test_two_processes_train_as_one(case: int, joined: list[list[dict[str, Any]]]) -> None:
    alone = trained(*CASES[case], Ranks())
    start = torch.cat([p.detach().flatten() for p in worlds.lora_model().parameters() if p.requires_grad])
    moved = (alone["weights"] - start).norm()
    for rank in (0, 1):
        found = joined[rank][case]
        assert found["units"] == alone["units"]
        assert found["clipped"] == alone["clipped"]
        assert [loss is None for loss in found["losses"]] == [loss is None for loss in alone["losses"]]
        seen, wanted = ([x for x in losses if x is not None] for losses in (found["losses"], alone["losses"]))
        assert seen == pytest.approx(wanted, rel=1e-4)
        assert (found["weights"] - alone["weights"]).norm() < 1e-4 * moved
    assert torch.equal(joined[0][case]["weights"], joined[1][case]["weights"])


def test_the_cases_hold_an_empty_step_and_an_empty_process() -> None:
    assert 0 in trained(True, RATES["few"], Ranks())["units"]
    assert 1 in trained(True, RATES["few"], Ranks())["units"]  # nothing for the second process
    assert min(trained(True, RATES["many"], Ranks())["units"]) >= 2


def test_alone_nothing_is_sent() -> None:
    alone = Ranks()
    assert alone.first and list(alone.mine([1, 2, 3])) == [1, 2, 3] and alone.shared(5) == 5
    assert alone.once(lambda: 6) == 6 and alone.together(lambda: 7) == 7
    assert [list(Ranks(rank, 2).mine([1, 2, 3])) for rank in (0, 1)] == [[1, 3], [2]]
    assert [list(Ranks(rank, 2).mine([1])) for rank in (0, 1)] == [[1], []]


# ---- the command line


SUITE = {
    "name": "joint",
    "model": {"max_length": 80},
    "data": {"source": "builtin:clinic", "patients": 24, "heldout": 4},
    "candidates": {"canaries": 6, "records": 4, "extraction": 4, "extraction_repetitions": 2},
    "training": {
        "clip": 0.5,
        "micro_batch": 16,
        "checkpoint_every": 2,
        "private": {"batch": 8, "steps": 5, "learning_rate": 0.01},
        "nonprivate": {"batch": 8, "steps": 5, "learning_rate": 0.01},
        "lora": {"rank": 2},
    },
    "grid": {"epsilons": [4]},
    "attacks": [],
    "judging": None,
}


def suite_file(model: Path, folder: Path) -> None:
    """JSON is YAML too."""
    text = json.dumps(SUITE | {"model": {"max_length": 80, "base": str(model)}})
    (folder / "joint.yaml").write_text(text)


def own_lines(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("dpaudit:")]


TRAIN = ("-m", "dpaudit", "train", "--suite", "joint.yaml", "--json")


@pytest.mark.slow
def test_the_command_under_torchrun_ends_as_the_command_alone(toy_model_dir: Path, tmp_path: Path) -> None:
    """All arms, by the insecure seed; then everything is there and a second call does nothing."""
    from safetensors.torch import load_file

    suite_file(toy_model_dir, tmp_path)
    words = (*TRAIN, "--insecure-seed", "5")
    joint = torchrun(*words, "--runs", "joint", cwd=tmp_path)
    assert joint.returncode == 0, joint.stderr
    told = json.loads(joint.stdout)  # once
    assert [row["arm"] for row in told["arms"]] == ["sft-inf", "sft-eps4"]
    alone = subprocess.run(
        [sys.executable, *words, "--runs", "alone", "--workers", "1"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert alone.returncode == 0, alone.stderr
    assert sum(line == "training sft-eps4 ..." for line in joint.stderr.splitlines()) == 1
    assert "Traceback" not in joint.stderr
    [one], [two] = ((tmp_path / name).glob("joint-*") for name in ("alone", "joint"))
    for arm in ("sft-inf", "sft-eps4"):
        first, second = (json.loads((run / f"train/{arm}/privacy.json").read_text()) for run in (one, two))
        for ledger in (
            first,
            second,
        ):  # keyed hashes of two corpora; of weights that two sums round otherwise
            del ledger["inputs"], ledger["custody"], ledger["adapter_sha256"]
        assert first == second
        steps = [
            [json.loads(line)["units"] for line in (run / f"train/{arm}/steps.jsonl").open()]
            for run in (one, two)
        ]
        assert steps[0] == steps[1]
        weights = [load_file(run / f"train/{arm}/adapter/adapter_model.safetensors") for run in (one, two)]
        for name, wanted in weights[0].items():
            assert (weights[1][name] - wanted).norm() < 1e-4 * wanted.norm(), name
    assert not list(two.glob("**/.*"))
    before = {p: p.stat().st_mtime_ns for p in two.glob("train/**/*")}
    assert torchrun(*words, "--runs", "joint", cwd=tmp_path).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in two.glob("train/**/*")} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((*TRAIN, "--eps", "x"), "dpaudit: --eps: expected numbers above 0"),
        ((*TRAIN, "--no-such"), "dpaudit: No such option"),
        ((*TRAIN, "--arm", "sft-eps3"), "dpaudit: --arm sft-eps3: expected one of sft-inf, sft-eps4"),
        ((*TRAIN, "--set", "training.private.batch=5000"), "dpaudit: training.private.batch: expected"),
        ((*TRAIN, "--set", "training.lora.targets=[no_such]"), "dpaudit: training.lora.targets: expected"),
        (("-m", "dpaudit", "demo"), "dpaudit: torchrun: expected dpaudit train"),
    ],
)
def test_a_mistake_is_told_once_and_leaves_no_run(
    words: tuple[str, ...], wanted: str, toy_model_dir: Path, tmp_path: Path
) -> None:
    suite_file(toy_model_dir, tmp_path)
    done = torchrun(*words, cwd=tmp_path)
    [line] = own_lines(done.stderr)
    assert line.startswith(wanted)
    assert done.stdout == "" and "exitcode  : 2" in done.stderr  # torchrun's own report names the code
    assert not (tmp_path / "runs").exists()


FAULT = """
import sys
from dpaudit import cli, errors
from dpaudit.training import engine, ranks
joined, clipped = ranks.of_environment, engine.dpsgd.clipped_sum
calls = 0
def broken(*rest):
    global calls
    calls += 1
    if joined().rank == {rank} and calls > {after}:
        raise {error}
    return clipped(*rest)
engine.dpsgd.clipped_sum = broken
sys.argv = ["dpaudit", "train", "--suite", "joint.yaml", "--arm", "sft-eps4", "--insecure-seed", "5",
    "--json"]
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_fault_of_one_process_ends_both_with_one_word(
    rank: int, toy_model_dir: Path, tmp_path: Path
) -> None:
    suite_file(toy_model_dir, tmp_path)
    script = tmp_path / "fault.py"
    script.write_text(FAULT.format(rank=rank, after=0, error='RuntimeError("CUDA: cannot allocate memory")'))
    done = torchrun(str(script), cwd=tmp_path)
    [line] = own_lines(done.stderr)
    assert line.startswith("dpaudit: training sft-eps4: expected 16 sequences to fit into memory")
    assert "Connection closed" not in done.stderr and "exitcode  : 3" in done.stderr
    script.write_text(FAULT.format(rank=rank, after=0, error='RuntimeError("a fault of ours")'))
    done = torchrun(str(script), cwd=tmp_path)
    [line] = own_lines(done.stderr)
    assert re.match(
        r"dpaudit: an error of ours: RuntimeError at .*; the log dpaudit-error-\S+\.log holds none of your "
        r"data",
        line,
    )
    assert len(list(tmp_path.glob("dpaudit-error-*.log"))) == 1
    assert "Connection closed" not in done.stderr and "exitcode  : 70" in done.stderr


@pytest.mark.slow
def test_a_joint_arm_that_was_killed_goes_on(toy_model_dir: Path, tmp_path: Path) -> None:
    """From the first process's checkpoint after two steps, to the weights of an unbroken arm in one
    process.
    """
    from safetensors.torch import load_file

    suite_file(toy_model_dir, tmp_path)
    script = tmp_path / "fault.py"
    script.write_text(
        FAULT.format(rank=1, after=6, error='RuntimeError("a fault of ours")')
    )  # two calls a step
    assert torchrun(str(script), cwd=tmp_path).returncode == 1
    [run] = (tmp_path / "runs").glob("joint-*")
    left = run / "train" / ".sft-eps4.partial"
    assert any(path.name.isdigit() for path in left.iterdir())
    words = (*TRAIN, "--arm", "sft-eps4", "--insecure-seed", "5")
    assert torchrun(*words, cwd=tmp_path).returncode == 0
    assert not left.exists() and not list((run / "secret" / "states").iterdir())
    subprocess.run(
        [sys.executable, *words, "--runs", "alone"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "CUDA_VISIBLE_DEVICES": ""},
    )
    [alone] = (tmp_path / "alone").glob("joint-*")
    found, wanted = (load_file(r / "train/sft-eps4/adapter/adapter_model.safetensors") for r in (run, alone))
    for name, weights in wanted.items():
        assert (found[name] - weights).norm() < 1e-4 * weights.norm(), name
    steps = (run / "train/sft-eps4/steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in steps] == list(range(5))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as refused:
        of_environment()
    assert str(refused.value).startswith(
        "torchrun: expected at most one process per GPU, got 2 processes for 1 GPUs; --nproc-per-node 1"
    )
