"""A stranger's training, once for all files."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from strangers import Scored, Server, scorer, trained
from test_plant import sharegpt, written

from dpaudit.planting import plant


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, toy_model_dir: Path) -> Path:
    """A folder with planted data, its key, and `adapter/`, which a script that knows of no audit trained for
    40 epochs; once for all processes that test side by side. Nobody writes into it.
    """
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "stranger"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            source = written(folder / "train.jsonl", [sharegpt(3 * i) for i in range(12)])
            plant.plant(source, folder / "planted.jsonl", folder / "key.json", 100)
            trained(folder / "planted.jsonl", toy_model_dir, folder / "adapter")
            (folder / "whole").touch()
    return folder


@pytest.fixture(scope="session")
def merged(world: Path, toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import peft
    import transformers

    folder = tmp_path_factory.mktemp("whole") / "merged"
    base = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
    peft.PeftModel.from_pretrained(base, world / "adapter").merge_and_unload().save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(toy_model_dir).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def answers(merged: Path, toy_model_dir: Path) -> Callable[[str, str], Scored]:
    import transformers

    models = {
        name: transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        for name, folder in (("tuned", merged), ("base", toy_model_dir))
    }
    return scorer(models, transformers.AutoTokenizer.from_pretrained(toy_model_dir))


@pytest.fixture
def served(answers: Callable[[str, str], Scored]) -> Iterator[tuple[str, type[Server]]]:
    class Ours(Server):
        names = ("tuned", "base")
        scored = answers

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ours)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", Ours
    server.shutdown()
    server.server_close()
