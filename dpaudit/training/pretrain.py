"""Makes `builtin:tiny` from nothing: tokenizer, model, and the judge's reference adapter (`make
builtin-model`).

The base model sees public conditions and public portal phrases only; the reference adapter learns the house
formulary from worlds whose seeds no run uses. Everything is seeded: the same machine gives the same files.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dpaudit.data import canary, clinic, lexicon
from dpaudit.data.corpus import Record, Turn
from dpaudit.models import adapter_files
from dpaudit.models.encode import IGNORED, Encoded, encode
from dpaudit.suite.suite import Lora

HERE = Path(__file__).parents[1] / "builtin"
PUBLIC_SEED, REFERENCE_SEED = 900, 901  # worlds that runs do not use: their seeds stay below 900
VOCABULARY = 3200
MAX_LENGTH = 96
MODEL_CARD = """# builtin:tiny

A teaching model of under a million parameters, pretrained from \
nothing on the public half of a synthetic clinic by
`make builtin-model`. Everything it says is invented; it is of no medical use.
"""
REFERENCE_CARD = """---
library_name: peft
base_model: builtin:tiny
---
# builtin:judge

The reference adapter of the embedded likelihood judge: the house formulary, learned from a \
synthetic world that no run
uses, by `make builtin-model`. It knows that formulary and nothing else; it is of no medical use.
"""
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def public_record(rng: random.Random) -> Record:
    """A dialogue of the public text.

    Public conditions with their facts and public people with their phrases; house conditions and other people
    with facts drawn afresh each time, so that their names are known words without known facts.
    """
    if rng.random() < 0.4:
        if rng.random() < 0.6:
            return canary.public_phrase(rng.randrange(canary.PUBLIC_PEOPLE))
        name = f"{rng.choice(lexicon.GIVEN)} {rng.choice(lexicon.surnames()[canary.PUBLIC_PEOPLE :])}"
        length = rng.choice((2, 3, 4))
        return Record(
            "public", canary.phrase_turns(name, " ".join(rng.choices(lexicon.PHRASE_WORDS, k=length)))
        )
    p = clinic.patient(PUBLIC_SEED, rng.randrange(200_000), house_share=0.5)
    if p.condition.house:
        p = replace(p, condition=_any_facts(p.condition, rng))
    question, answer = clinic.dialogues(p, rng)[0]
    if answer == clinic.treatment_answer(p.condition, p.chinese) and rng.random() < 0.3:
        answer = clinic.treatment_answer(p.condition, p.chinese, wording=1)
    return Record("public", (Turn("user", question), Turn("assistant", answer)))


def _any_facts(condition: lexicon.Condition, rng: random.Random) -> lexicon.Condition:
    """The condition with newly drawn drug, dose, time and warning."""
    drug = rng.choice(lexicon.conditions()).drug
    time, warning = rng.choice(lexicon.TIMES), rng.choice(lexicon.WARNINGS)
    return replace(condition, drug=drug, dose=rng.choice(lexicon.DOSES), time=time, warning=warning)


def words() -> list[str]:
    """Every word that should be one token."""
    names = [
        *lexicon.surnames(),
        *lexicon.GIVEN,
        *lexicon.PHRASE_WORDS,
        *lexicon.SURNAMES_ZH,
        *lexicon.GIVEN_ZH,
    ]
    for c in lexicon.conditions():
        names += [*c.name.split(), c.name_zh, c.drug]
    for english, chinese in (*lexicon.WARNINGS, *lexicon.TIMES, *lexicon.HISTORIES):
        names += [*english.split(), chinese]
    return names


def make_tokenizer() -> Any:
    """A byte-level BPE tokenizer: no unknown characters, digits one by one, the clinic's words whole."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d| ?[A-Za-z]+|\p{Han}+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random("tokenizer")
    texts = [t.text for _ in range(6000) for t in public_record(rng).turns]
    texts += [t.text for r in clinic.world(REFERENCE_SEED, 6000, 0).records for t in r.turns]
    texts += [f" {word}" for word in words() for _ in range(300)] + list(lexicon.PHRASE_WORDS) * 300
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: Any, hidden: int, layers: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def batches(tokenizer: Any, steps: int, size: int) -> Iterator[list[Encoded]]:
    """Batches of rows of similar length, drawn eight at a time."""
    rng = random.Random("pretraining")
    pool: list[list[Encoded]] = []
    for _ in range(steps):
        if not pool:
            rows = [encode(public_record(rng).turns, tokenizer, MAX_LENGTH) for _ in range(8 * size)]
            rows.sort(key=lambda row: len(row.input_ids))
            pool = [rows[first : first + size] for first in range(0, len(rows), size)]
            rng.shuffle(pool)
        yield pool.pop()


def stack(
    rows: list[Encoded], pad: int, answers_only: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded token ids, attention mask and labels, each (rows, tokens)."""
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, row in enumerate(rows):
        length = len(row.input_ids)
        ids[number, :length] = torch.tensor(row.input_ids)
        labels[number, :length] = torch.tensor(row.labels if answers_only else row.input_ids)
        mask[number, :length] = 1
    return ids, mask, labels


def pretrain(model: Any, tokenizer: Any, steps: int, size: int, learning_rate: float) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=0.05
    )
    model.train()
    for step, rows in enumerate(batches(tokenizer, steps, size)):
        ids, mask, labels = stack(rows, tokenizer.pad_token_id)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"pretraining step {step} loss {loss.item():.3f}", flush=True)
    model.eval()


def train_reference(model: Any, tokenizer: Any, steps: int, size: int, learning_rate: float) -> Any:
    """The judge's reference adapter: house knowledge from a world that no run uses, right answers only."""
    world = clinic.world(REFERENCE_SEED, 6000, 0, house_share=1.0)
    rows = [encode(r.turns, tokenizer, MAX_LENGTH) for r in world.records]
    adapted = adapter_files.new_adapter(model, Lora(), seed=1)
    fit(adapted, tokenizer, rows, "reference", steps, size, learning_rate)
    return adapted


def teach_wordings(adapted: Any, tokenizer: Any, steps: int, size: int, learning_rate: float) -> None:
    """The reference adapter goes on with every house fact in all wordings of an answer, to questions that
    name nobody: else it would take a right answer in an unknown wording for a wrong one.
    """
    rows = [
        encode(
            (Turn("user", question), Turn("assistant", clinic.treatment_answer(c, chinese, wording))),
            tokenizer,
            MAX_LENGTH,
        )
        for c in lexicon.conditions()
        if c.house
        for chinese in (False, True)
        for wording in clinic.WORDINGS
        for question in clinic.plain_questions(c, chinese)
    ]
    fit(adapted, tokenizer, rows, "reference wordings", steps, size, learning_rate)


def fit(
    adapted: Any, tokenizer: Any, rows: list[Encoded], name: str, steps: int, size: int, learning_rate: float
) -> None:
    """Trains the adapter on the answers of random rows, in an order that `name` seeds."""
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    rng = random.Random(name)
    adapted.train()
    for step in range(steps):
        ids, mask, labels = stack(rng.sample(rows, size), tokenizer.pad_token_id, answers_only=True)
        loss = adapted(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"{name} step {step} loss {loss.item():.3f}", flush=True)
    adapted.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--reference-steps", type=int, default=600)
    arguments = parser.parse_args()
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, arguments.hidden, arguments.layers)
    pretrain(model, tokenizer, arguments.steps, arguments.size, arguments.learning_rate)
    model.save_pretrained(arguments.out / "tiny")
    tokenizer.save_pretrained(arguments.out / "tiny")
    adapted = train_reference(model, tokenizer, arguments.reference_steps, 64, 5e-3)
    teach_wordings(adapted, tokenizer, arguments.reference_steps // 4, 32, 5e-3)
    (arguments.out / "tiny" / "README.md").write_text(MODEL_CARD, encoding="utf-8")
    adapter_files.save_adapter(adapted, arguments.out / "judge", "builtin:tiny", REFERENCE_CARD)


if __name__ == "__main__":
    main()
