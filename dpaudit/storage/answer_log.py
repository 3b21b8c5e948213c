"""Answers as they come, a line each, so that a command that was killed goes on where it was."""

import hashlib
import hmac
import json
import os
import threading
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
        self._adding, self._torn = threading.Lock(), (0, 0)  # bytes of the file, and of its torn last line
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
        with self._adding, disk.room(self._file.parent):
            self._cut()
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)

    def _read(self) -> list[tuple[str, Any]]:
        """The whole lines. The file stays as it is: another command may be writing it."""
        if not self._file.is_file():
            return []
        told = self._file.read_bytes()
        lines = told.split(b"\n")
        self._torn = len(told), len(lines.pop())
        return [pair for line in lines if (pair := self._pair(line)) is not None]

    def _cut(self) -> None:
        """Removes what a kill left of the last line, or the next would join it."""
        (size, torn), self._torn = self._torn, (0, 0)
        if torn and self._file.stat().st_size == size:
            os.truncate(self._file, size - torn)

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
