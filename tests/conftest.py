"""Fixtures that several test modules share."""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typed import MINI, Call, Outcome

from dpaudit import cli

# Toy models gain nothing from threads, and threads that wait for each other on a busy machine cost ten times
# the work
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["COLUMNS"] = "100"  # as where nobody tells how wide the terminal is
# bitsandbytes, which PEFT loads, compiles functions as it is imported: a second or two in every process that
# imports PEFT, for models in int8 that no test has
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

FILES = sorted(Path(__file__).parent.rglob("test_*.py"))
# a file may take helpers from a file in another folder, also where it is run alone
sys.path += sorted({str(file.parent) for file in FILES} - set(sys.path))

LONGEST = (  # files by the time that they take: the processes end together when these begin first
    "test_pipelines", "test_verify_endpoints", "test_audit", "test_judge_outside", "test_verify_report",
    "test_lab", "test_resume", "test_fuzz", "test_parallel", "test_preference", "test_ranks",
    "test_verify_renderings", "test_verify", "test_judge_replies", "test_accountants", "test_subsampled",
    "test_train", "test_verify_kept", "test_judge_told", "test_planning", "test_served",
    "test_accounting", "test_merge", "test_axes", "test_inside", "test_custody",
    "test_cli", "test_selftest", "test_false_refutation", "test_bounds", "test_prepare",
    "test_kills", "test_shadows", "test_declarations", "test_mechanism", "test_report", "test_blind",
    "test_beside", "test_paired", "test_own_data",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Processes that test side by side begin to import at different files: rewriting the assertions of all
    takes ten seconds, and what one process has rewritten the others read.

    Meanwhile nothing is looked at for garbage: of 700,000 objects nearly all stay, and to look takes a third
    of the time.
    """
    gc.disable()
    at = getattr(session.config, "workerinput", None)
    if at is None or session.config.args != session.config.getini("testpaths"):
        return
    begin = int(at["workerid"].removeprefix("gw")) * len(FILES) // at["workercount"]
    for file in FILES[begin:] + FILES[:begin]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # told where the file is collected
            importlib.import_module(file.stem)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what was imported is not looked at again
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True, scope="session")
def arms_train_in_this_process() -> Iterator[None]:
    """Another process imports for seconds, and a toy arm trains in less.

    Tests of several processes name `workers`.
    """
    from dpaudit.stages.attack import shadows
    from dpaudit.stages.train import train

    with pytest.MonkeyPatch.context() as patch:
        for stage in (train, shadows):
            patch.setattr(stage, "default_workers", lambda base: 1)
        yield


SENTENCES = [
    "I have a sore throat and a mild fever since Monday. What should I take?",
    "Take 500 mg of paracetamol every six hours and drink plenty of water.",
    "Do not take it with alcohol. See a doctor if the fever lasts three days.",
    "My code is amber tulip crane delta. Your record number is 4711.",
    "我头疼两天了，应该吃什么药？请按时服药，注意休息。",
]
SPECIAL = ["<pad>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def toy_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Llama (hidden 32) and a byte-level BPE tokenizer with a chat
    template.
    """
    import tokenizers
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "toy"
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<|end|>", model_max_length=256
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.3,  # wide, so that distributions are far from uniform
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def toy_adapter_dir(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the toy model (rank 2, all linear layers) whose weights are all non-zero."""
    import peft
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("adapters") / "toy"
    model = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        peft.get_peft_model(model, config).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], toy_model_dir: Path
) -> Call:
    """Types `dpaudit ...` in an empty folder that holds nothing but mini.yaml."""
    monkeypatch.chdir(tmp_path)
    suite = MINI | {"model": MINI["model"] | {"base": str(toy_model_dir)}}
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(suite))

    def typed(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["dpaudit", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Outcome(int(ended.value.code or 0), *capfd.readouterr())

    return typed
