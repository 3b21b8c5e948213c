"""Batch answers by vLLM: one engine for a base and any number of LoRA adapters on it. The package is an extra
(docs/generate.md).
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpaudit.data.corpus import Turn
from dpaudit.errors import PartialError, UsageError
from dpaudit.models import hf
from dpaudit.models.adapters import CONFIG
from dpaudit.models.decoding import Decoding
from dpaudit.models.encode import prompt_ids
from dpaudit.models.generation import Written
from dpaudit.models.tokenizers import load_tokenizer
from dpaudit.models.writers import Batch

AT_ONCE = 256  # prompts that the engine is given together, and that a kill may lose
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for


class VllmWriter:
    """An engine over `base` with named adapters. Prompts are the tokens that the Transformers model reads."""

    def __init__(self, base: str, adapters: Mapping[str, Path], dtype: str = "float32") -> None:
        """Raises UsageError where vLLM is missing, and for an adapter that it cannot run; PartialError where
        the engine does not start.
        """
        room = _room(adapters)  # before the engine takes its minutes
        vllm = _package()
        folder = str(hf.place_of(base))
        self._tokenizer = load_tokenizer(base)
        try:
            self._engine = vllm.LLM(
                model=folder,
                dtype=dtype,
                enable_lora=bool(adapters),
                max_loras=max(1, len(adapters)),
                **({"max_lora_rank": room} if adapters else {}),
                gpu_memory_utilization=_memory_share(),
                generation_config="vllm",  # not the settings that the model's own files name
            )
        except (RuntimeError, ValueError) as error:  # the engine's own processes say on stderr what it was
            raise PartialError(
                "backend vllm",
                "an engine that starts",
                "one that stopped; its own lines stand above",
                "free memory, or take the backend hf",
            ) from error
        lora = vllm.lora.request.LoRARequest if adapters else None
        self._adapters = {
            name: lora(name, number, str(folder.absolute()))
            for number, (name, folder) in enumerate(adapters.items(), 1)
            if lora
        }

    def sizes(self, prompts: Sequence[tuple[Turn, ...]]) -> list[int]:
        return [len(prompt_ids(turns, self._tokenizer)) for turns in prompts]

    @property
    def window(self) -> int | None:
        return int(self._engine.llm_engine.model_config.max_model_len)

    def write(
        self,
        adapter: str | None,
        prompts: Sequence[tuple[Turn, ...]],
        decoding: Decoding,
        seed: int,
        known: Collection[int],
    ) -> Iterator[Batch]:
        open_places = [place for place in range(len(prompts)) if place not in known]
        for start in range(0, len(open_places), AT_ONCE):
            batch = open_places[start : start + AT_ONCE]
            found = self._engine.generate(
                [{"prompt_token_ids": prompt_ids(prompts[place], self._tokenizer)} for place in batch],
                [self._settings(decoding, seed * len(prompts) + place) for place in batch],
                lora_request=self._adapters[adapter] if adapter else None,
                use_tqdm=False,
            )
            outputs = [one.outputs[0] for one in found]
            yield batch, [Written(one.text.strip(), one.finish_reason == "length") for one in outputs]

    def _settings(self, decoding: Decoding, seed: int) -> Any:
        ends = self._engine.get_tokenizer().eos_token_id
        return _package().SamplingParams(
            max_tokens=decoding.tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            repetition_penalty=decoding.repetition_penalty,
            seed=None if decoding.is_greedy else seed,
            stop_token_ids=[ends] if ends is not None else None,
        )


def check(decoding: Decoding, adapters: Mapping[str, Path]) -> None:
    """Raises UsageError, before anything is loaded, for what vLLM cannot do."""
    if decoding.no_repeat:
        raise UsageError(
            "--preset conservative",
            "a preset that vLLM can draw",
            f"one that lets no {decoding.no_repeat} tokens come twice, which vLLM does not know",
            "the backend hf, or --preset sampled",
        )
    _room(adapters)
    _package()


def _package() -> Any:
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # else its processes tell every step on stdout
    try:
        import vllm
        import vllm.lora.request
    except ImportError:
        raise UsageError(
            "backend vllm",
            "the package vllm in this environment",
            "no vllm",
            "docs/generate.md says how to make one, or take the backend hf",
        ) from None
    return vllm


def _memory_share() -> float:
    """The share of the device's memory that the engine may take: of a GPU nine tenths of what is free, of a
    machine's own memory one half. vLLM's default is nine tenths of all, and it stops where they are not free.
    """
    import psutil
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return 0.9 * free / total
    memory = psutil.virtual_memory()
    return 0.5 * float(memory.available) / float(memory.total)


def _room(adapters: Mapping[str, Path]) -> int:
    """The least rank that holds all adapters."""
    most = RANKS[0]
    for folder in adapters.values():
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        highest = max([config.get("r", 0), *(config.get("rank_pattern") or {}).values()])
        fits = next((rank for rank in RANKS if rank >= highest), None)
        if fits is None or config.get("use_dora"):
            got = "a DoRA adapter" if config.get("use_dora") else f"rank {highest}"
            wanted = f"a LoRA adapter of rank {RANKS[-1]} or less for vLLM"
            raise UsageError(str(folder), wanted, got, "the backend hf, or merge it")
        most = max(most, fits)
    return most
