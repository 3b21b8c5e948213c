"""Models of random weights: of the shape that they name, the same each time, told from other models."""

import math

import pytest
import torch

from dpaudit.errors import UsageError
from dpaudit.models import hf, merge, random_weights
from dpaudit.models.encode import counted_mask, encode_text
from dpaudit.models.hf_model import HFModel
from dpaudit.stages.integrity import weights

TOY = "random:toy"


@pytest.mark.parametrize("name", list(random_weights.SHAPES))
def test_a_shape_counts_its_weights(name: str) -> None:
    empty = hf.check(f"random:{name}").empty
    assert sum(weight.numel() for weight in empty.parameters()) == random_weights.SHAPES[name].parameters


def test_shapes_are_those_that_their_names_say() -> None:
    billions = {name: round(shape.parameters / 1e9, 2) for name, shape in random_weights.SHAPES.items()}
    assert billions == {"llama-3.1-8b": 8.03, "llama-3.2-1b": 1.24, "toy": 0.0}


def test_weights_are_random_and_the_same_each_time() -> None:
    one, again, half = (hf.load_model(TOY, dtype) for dtype in ("float32", "float32", "bfloat16"))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        assert torch.equal(weight.bfloat16(), half.state_dict()[name])
        if weight.dim() == 2:
            error = random_weights.SPREAD / math.sqrt(weight.numel())
            assert abs(weight.mean()) < 5 * error and abs(weight.std() - random_weights.SPREAD) < 5 * error
        else:
            assert bool((weight == 1).all())
    layers = one.model.layers
    assert not torch.equal(layers[0].mlp.up_proj.weight, layers[1].mlp.up_proj.weight)
    assert one.lm_head.weight is one.model.embed_tokens.weight  # as the shape says


@pytest.mark.parametrize("chunk", [7, 1000])
def test_a_weight_does_not_depend_on_how_much_is_drawn_at_a_time(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = random_weights.Drawn("model.layers.0.self_attn.q_proj.weight", (31, 47), torch.float32)
    whole = drawn[...]
    monkeypatch.setattr(random_weights, "CHUNK", chunk)
    assert torch.equal(drawn[...], whole)


@pytest.mark.parametrize("quantization", [None, "nf4"])
def test_such_a_model_reads_any_text(quantization: str | None) -> None:
    model = HFModel.load(TOY, "bfloat16", quantization)
    item = encode_text("Grüße: 12.5 mg 阿司匹林 q.d.", model.tokenizer, 64)
    counted = counted_mask([True] * len(item.input_ids))
    (scores,) = model.token_scores([item], counted=[counted])
    vocabulary = random_weights.SHAPES["toy"].vocab_size
    assert abs(scores.logprob[counted].mean() + math.log(vocabulary)) < 0.1  # it knows nothing


def test_no_other_model_is_taken_for_it() -> None:
    known = [weights.of_base(f"random:{name}") for name in random_weights.SHAPES]
    assert len({tuple(sorted(files.items())) for files in known}) == len(known)
    assert all("tokenizer.json" in files and "model.safetensors" not in files for files in known)


def test_what_lies_nowhere_is_not_opened_as_a_folder() -> None:
    with pytest.raises(UsageError, match="a model with files, got random weights"):
        hf.place_of(TOY)
    with pytest.raises(UsageError, match=r"one of random:llama-3\.1-8b, .*, got an unknown shape"):
        hf.check("random:llama-9")
    assert merge.folder_of(TOY) is None
