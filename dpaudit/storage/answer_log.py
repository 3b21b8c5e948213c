"""Answers as they come, a line each, so that a command that was killed goes on where it was."""

import hashlib
import hmac
import json
import os
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpaudit.storage import disk
from dpaudit.storage.whole_files import PRIVATE

NEW = object()  # in place of an answer that is not there


class AnswerLog:
    """The answers of one model to one benchmark, in a file for its owner's eyes alone.

    A line is an answer under a keyed name of what was asked, and a seal of both: nobody confirms a guessed
    prompt, and a line that was cut, altered, or written for something else is no answer. `of` says on what
    the answers depend: the weights, and how items are asked.
    """

    def __init__(self, file: Path, key: bytes, of: Sequence[str]) -> None:
        self._file, self._key, self._of = file, key, list(of)
        self._known: dict[str, deque[Any]] = defaultdict(deque)
        for name, answer in self._read():
            self._known[name].append(answer)

    def answers(self, asked: Sequence[Any]) -> list[Any]:
        """Per question its kept answer, else NEW. A question that is asked twice has two answers, each given
        once.
        """
        names = [self._name(question) for question in asked]
        return [self._known[name].popleft() if self._known[name] else NEW for name in names]

    def keep(self, question: Any, answer: Any) -> None:
        """Adds an answer to the file, whole or not at all."""
        name = self._name(question)
        row = {"asked": name, "answer": answer, "seal": self._seal(name, answer)}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        with disk.room(self._file.parent):
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)

    def _read(self) -> list[tuple[str, Any]]:
        """The whole lines. What a kill left of the last one is cut off, or the next would join it."""
        if not self._file.is_file():
            return []
        lines = self._file.read_bytes().split(b"\n")
        if torn := lines.pop():
            os.truncate(self._file, self._file.stat().st_size - len(torn))
        return [pair for line in lines if (pair := self._pair(line)) is not None]

    def _pair(self, line: bytes) -> tuple[str, Any] | None:
        try:
            row = json.loads(line)
            name, answer, seal = row["asked"], row["answer"], row["seal"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        fits = isinstance(seal, str) and hmac.compare_digest(seal.encode(), self._seal(name, answer).encode())
        return (name, answer) if fits else None

    def _name(self, question: Any) -> str:
        return self._digest(["asked", self._of, question])

    def _seal(self, name: str, answer: Any) -> str:
        return self._digest(["answer", name, answer])

    def _digest(self, what: Any) -> str:
        text = json.dumps(what, sort_keys=True, default=str)
        return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()[:32]
