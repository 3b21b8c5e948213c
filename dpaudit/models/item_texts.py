"""What of a benchmark's items may stand in a training text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpaudit.models.items import drawn, identity


@dataclass(frozen=True)
class ItemTexts:
    """What of an item may stand in a text: `own` is what it says itself, `whole` the prompt that its task
    makes of that, with the right answer.
    """

    own: tuple[str, ...]
    whole: str


def texts_of(task: Any, limit: int | None) -> dict[str, ItemTexts]:
    """The texts of the items that `limit` leaves of a task, by their ids."""
    texts: dict[str, ItemTexts] = {}
    docs, places = list(task.eval_docs), drawn(task, limit)
    for number in range(len(docs)) if places is None else places:
        doc = docs[number]
        prompt, target = str(task.doc_to_text(doc)), task.doc_to_target(doc)
        choices = task.doc_to_choice(doc) if task.OUTPUT_TYPE == "multiple_choice" else []
        right = choices[target] if isinstance(target, int) and choices else target
        whole = f"{prompt} {right}"
        texts[identity(doc, number)] = ItemTexts(_own_texts(doc, prompt, target) or (whole,), whole)
    return texts


def _own_texts(doc: Any, prompt: str, target: Any) -> tuple[str, ...]:
    """The question, alone and with the right answer, and other texts of the item that its prompt quotes;
    empty where the item names no question.
    """
    question = doc.get("question") if isinstance(doc, Mapping) else None
    if not isinstance(question, str):
        return ()
    choices = doc.get("choices")
    right = choices[target] if isinstance(choices, list) and isinstance(target, int) else target
    quoted = [text for text in doc.values() if isinstance(text, str) and text and text in prompt]
    return (question, f"{question} {right}", *(text for text in quoted if text != question))
