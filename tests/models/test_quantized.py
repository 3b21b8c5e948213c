"""Bases in 4 bits: read as they are, and the same in every stage as where the arms were trained on them."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpaudit.errors import UsageError
from dpaudit.models import hf, hf_model, merge, number_formats, preflight
from dpaudit.stages import evaluate
from dpaudit.stages.attack import attack
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm, Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Model, Schedule, Suite, Training

bitsandbytes = pytest.importorskip("bitsandbytes")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture(scope="module")
def packed(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model as a checkpoint in NF4."""
    folder = tmp_path_factory.mktemp("models") / "nf4"
    shutil.copytree(toy_model_dir, folder)
    hf.load_model(str(toy_model_dir), quantization="nf4").save_pretrained(folder)
    return folder


def logits(model: object) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits  # type: ignore[operator, no-any-return]


def test_a_packed_checkpoint_is_read_as_it_is(packed: Path, toy_model_dir: Path) -> None:
    preflight.check(str(packed))
    preflight.check(str(packed), quantization="nf4")
    found = hf_model.HFModel.load(str(packed)).model
    assert isinstance(found.model.layers[0].mlp.up_proj, bitsandbytes.nn.Linear4bit)
    torch.testing.assert_close(logits(found), logits(hf.load_model(str(toy_model_dir), quantization="nf4")))
    assert not torch.allclose(logits(found), logits(hf.load_model(str(toy_model_dir))), atol=1e-2)


def test_scoring_computes_as_training_does(toy_model_dir: Path) -> None:
    """bitsandbytes has a second kernel for processors with AVX512-BF16, which rounds to bfloat16 and serves
    no gradient.
    """
    model = hf.load_model(str(toy_model_dir), quantization="nf4")
    trained = model.train()(input_ids=IDS).logits
    torch.testing.assert_close(logits(model.eval()), trained)


def test_packed_weights_are_not_read_up(toy_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_formats, "is_slow", lambda dtype: True)
    found = hf_model.HFModel.load(str(toy_model_dir), "bfloat16", quantization="nf4").model
    assert found.model.layers[0].mlp.up_proj.weight.dtype == torch.uint8
    torch.testing.assert_close(
        logits(found), logits(hf.load_model(str(toy_model_dir), "bfloat16", quantization="nf4"))
    )


@pytest.mark.parametrize("lost", ["model.layers.1.self_attn.q_proj.weight", "model.norm.weight"])
def test_a_packed_checkpoint_that_lacks_a_tensor_is_refused(lost: str, packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nf4"
    shutil.copytree(packed, folder)
    tensors = {name: part for name, part in load_file(packed / "model.safetensors").items() if name != lost}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=f"1 missing \\({lost}\\)"):
        preflight.check(str(folder))


def test_a_packed_checkpoint_without_its_configuration_is_refused(
    packed: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "nf4"
    shutil.copytree(packed, folder)
    shutil.copy(toy_model_dir / "config.json", folder)
    with pytest.raises(UsageError, match="packed tensors"):
        preflight.check(str(folder))


@pytest.mark.parametrize("load", ["evaluate", "attack"])
def test_every_stage_loads_an_arms_base_as_it_was_trained(
    load: str, toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    steps = Schedule(batch=8, steps=1, learning_rate=0.01)
    base = Model(str(toy_model_dir), quantization="nf4", attention="eager")
    plan = Plan(
        Suite("toy", training=Training(steps, steps), model=base, grid=Grid(epsilons=(8.0,), baseline=False)),
        seed=0,
    )
    (arm,) = plan.suite.grid.arms
    run_dir = RunDir(tmp_path / "run")
    shutil.copytree(toy_adapter_dir, run_dir.file(f"train/{arm.name}/adapter"))
    model = _loaded(load, run_dir, plan, arm)
    layer = model.model.base_model.model.model.layers[0].mlp.up_proj
    assert isinstance(layer.base_layer, bitsandbytes.nn.Linear4bit)
    assert model.model.config._attn_implementation == "eager"


def _loaded(stage: str, run_dir: RunDir, plan: Plan, arm: Arm) -> hf_model.HFModel:
    if stage == "attack":
        return attack._load(run_dir, plan, [arm])
    return evaluate.load_model(run_dir, plan, [arm.name])


def test_an_adapter_is_merged_into_what_it_was_trained_on(
    toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    from dpaudit.stages.train.merge import PROMPTS

    out = tmp_path / "merged"
    merge.merge(
        str(toy_model_dir),
        toy_adapter_dir,
        out,
        dtype="float32",
        quantization="nf4",
        shard_size="1GB",
        without=(),
        prompts=PROMPTS,
    )
    trained = hf.with_adapter(hf.load_model(str(toy_model_dir), quantization="nf4"), toy_adapter_dir)
    torch.testing.assert_close(logits(hf.load_model(str(out))), logits(trained), atol=1e-4, rtol=1e-4)
