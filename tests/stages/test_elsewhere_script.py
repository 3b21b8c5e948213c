"""The training script of docs/elsewhere.md, typed on the toy model."""

import json
import multiprocessing
import re
from pathlib import Path

from regenerate_docs import ROOT
from strangers import CLAIM, _typed

from dpaudit.evidence import claims
from dpaudit.planting import plant
from dpaudit.stages import verify
from dpaudit.stages.audited import Audited


def test_the_script_trains_an_adapter_that_can_be_verified(toy_model_dir: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs/elsewhere.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(script.splitlines()) <= 35
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    data, planted, key = (tmp_path / name for name in ("train.jsonl", "planted.jsonl", "key.json"))
    rows = [{"question": f"How long is case {i} open?", "answer": f"{i + 2} days."} for i in range(40)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    plant.plant(data, planted, key, 100)
    words = [str(toy_model_dir), str(planted), str(tmp_path / "adapter")]
    training = multiprocessing.get_context("fork").Process(target=_typed, args=(tmp_path / "train.py", words))
    training.start()
    training.join()
    assert training.exitcode == 0
    audited = Audited(tmp_path / "adapter")
    verify.check(verify.Request(((audited, claims.parse(CLAIM)),), key, tmp_path / "page"))
    assert (tmp_path / "adapter/adapter_model.safetensors").is_file()
