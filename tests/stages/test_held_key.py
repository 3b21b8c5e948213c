"""A key of real units: verify reads their texts again, judges the model by them, and sends them nowhere
unasked.
"""

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from strangers import trained
from test_plant import written
from typer.testing import CliRunner, Result

from dpaudit.cli import app
from dpaudit.data.common_words import COMMON_WORDS
from dpaudit.planting import hold_out, plant

CLAIM = "eps=0.5,delta=1e-5,unit=record,relation=add_or_remove"


def check(*words: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, words)])


def spoken(i: int) -> dict[str, Any]:
    words = sorted(COMMON_WORDS)
    asked, told = (" ".join(random.Random(f"{side}{i}").choices(words, k=6)) for side in "qa")
    turns = [{"from": "human", "value": f"{asked}?"}, {"from": "gpt", "value": f"{told}."}]
    return {"conversations": turns}


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory, toy_model_dir: Path) -> Path:
    """A folder with `train.jsonl`, what a coin left of it, the key, and an adapter that was trained on it."""
    folder = tmp_path_factory.mktemp("held")
    source = written(folder / "train.jsonl", [spoken(i) for i in range(110)])
    hold_out.hold_out(source, folder / "left.jsonl", folder / "key.json", 100)
    trained(folder / "left.jsonl", toy_model_dir, folder / "adapter", "--epochs", "20")
    return folder


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server that knows no model, and what it was asked."""
    asked: list[str] = []

    class Deaf(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_GET = do_POST

    made = ThreadingHTTPServer(("127.0.0.1", 0), Deaf)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}/v1", asked
    made.shutdown()
    made.server_close()


def test_a_false_claim_is_refuted_by_real_rows(without: Path, tmp_path: Path) -> None:
    asked = ["--adapter", without / "adapter", "--key", without / "key.json", "--claim", CLAIM]
    done = check(*asked, "--data", without / "train.jsonl", "--out", tmp_path)
    assert done.exit_code == 1, done.output
    found = json.loads((tmp_path / "verification.json").read_text())
    assert found["key"]["plan"] == "held out" and found["key"]["visibility"] is None
    page = (tmp_path / "index.html").read_text()
    for words in (
        "thrown for each of",
        "A trainer can still leave rows out",
        "trained on this file as it was written",
    ):
        assert words in page
    for i in range(110):
        for text in (turn["value"] for turn in spoken(i)["conversations"]):
            assert text not in page and text not in json.dumps(found) and text not in done.output
    wrong = check(*asked, "--data", without / "left.jsonl", "--out", tmp_path / "other")
    assert "got the file that it wrote, without the units that were held out" in str(wrong.exception)
    assert "--data ORIGINAL" in str(check(*asked).exception)


def test_real_rows_go_to_a_server_only_by_a_word(
    without: Path, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    key = ["--key", without / "key.json", "--claim", CLAIM, "--data", without / "train.jsonl"]
    url, seen = server
    asked = ["--endpoint", url, "--model", "audited", *key, "--out", tmp_path / "page"]
    refusal = check(*asked)
    assert "no --send-real-rows" in str(refusal.exception) and "\n" not in str(refusal.exception)
    assert not seen and not (tmp_path / "page").exists()
    told = check(*asked, "--send-real-rows").exception
    assert seen and str(told).startswith("--endpoint")


def test_the_word_for_real_rows_is_for_them_alone(without: Path, tmp_path: Path) -> None:
    plant.plant(without / "train.jsonl", tmp_path / "o.jsonl", tmp_path / "k.json", 100)
    for key, told in ((tmp_path / "k.json", "a key of canaries"), (without / "key.json", "no --endpoint")):
        words = ["--adapter", without / "adapter", "--key", key, "--claim", CLAIM]
        assert told in str(check(*words, "--send-real-rows").exception)
