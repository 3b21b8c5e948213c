"""What models said of a key's secrets, kept beside the page, so that the next call does not ask again.

A kept file holds log-probabilities: no text and no coin. Its name is a digest of all that decides them, and
it carries its own hash under a seal of the key.
"""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit import __version__
from dpaudit.errors import UsageError, unread
from dpaudit.findings.verification import NotAsked
from dpaudit.planting.audit_key import Planted
from dpaudit.stages.audited import Audited
from dpaudit.stages.integrity import weights
from dpaudit.storage import custody, exclusive, whole_files
from dpaudit.storage.answer_log import AnswerLog

if TYPE_CHECKING:
    from dpaudit.models.secret_spans import SecretScores

FOLDER, FORMAT = "scores", "verify-scores/1"
LIBRARIES = ("torch", "transformers", "peft", "tokenizers")
Scores = tuple["list[SecretScores]", "list[SecretScores] | None"]  # of the model, and of its base


@dataclass(frozen=True, eq=False)
class Said:
    """What a model and its base say of some rows in every rendering that could be asked, and why not in the
    others.
    """

    scores: dict[str, Scores]
    not_asked: tuple[NotAsked, ...]


@dataclass(frozen=True)
class Kept:
    """The folder of kept scores of one key, named by its `commitment`; `seal_key` seals them."""

    folder: Path
    commitment: str
    seal_key: bytes

    def of(self, audited: Audited, renderings: Sequence[str]) -> "OfModel | None":
        """Where the scores of a model are kept; None for a model behind a URL, which can change unseen."""
        decides = None if audited.endpoint else _decides(audited)
        return OfModel(self, audited, tuple(renderings), decides) if decides else None


@dataclass(frozen=True)
class OfModel:
    """The kept scores of one model. `decides` is what they follow from, besides key, rows and renderings."""

    kept: Kept
    audited: Audited
    renderings: tuple[str, ...]
    decides: dict[str, Any]

    def require_unchanged(self) -> None:
        """Raises UsageError where the files of the model are no longer those that were opened."""
        if _decides(self.audited) != self.decides:
            raise UsageError(
                self.audited.name,
                "a model whose files stay as they are while it is asked",
                "files that changed meanwhile",
                "type the command again",
            )

    def read(self, kind: str, rows: Sequence[Planted]) -> Said | None:
        """What was said of these rows; None where nothing is kept. Raises UsageError for an altered file."""
        file = self._file(kind, rows)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            fault = custody.fault(content, file.name, self.kept.seal_key)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unread(file, "scores that an earlier call kept", error) from None
        except (ValueError, AttributeError, RecursionError):
            fault = "a file of another kind"
        if fault:
            expected = "scores as an earlier call kept them"
            raise UsageError(str(file), expected, fault, "delete the file: the model is then asked again")
        left_out = tuple(NotAsked(**row) for row in content["not_asked"])
        return Said({name: _read(both) for name, both in content["scores"].items()}, left_out)

    def write(self, kind: str, rows: Sequence[Planted], said: Said) -> None:
        """Keeps what was said, for its owner's eyes alone. Only under the lock of the page."""
        file = self._file(kind, rows)
        content = {
            "format": FORMAT,
            "scores": {name: _plain(both) for name, both in said.scores.items()},
            "not_asked": [asdict(left) for left in said.not_asked],
        }
        text = json.dumps(custody.stamped(content, file.name, self.kept.seal_key))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        exclusive.remove_left(file)  # of a killed call
        whole_files.write_text(file, text + "\n", whole_files.PRIVATE)

    def begun(self) -> AnswerLog:
        """What was said so far, kept as it comes. Only under the lock of the page."""
        return AnswerLog(self._log, self.kept.seal_key, [self._name({})])

    def end(self) -> None:
        """Forgets what `begun` kept: it stands in whole files now."""
        self._log.unlink(missing_ok=True)

    @property
    def _log(self) -> Path:
        return self.kept.folder / f".{self._name({})}.answers"

    def _file(self, kind: str, rows: Sequence[Planted]) -> Path:
        told = custody.canonical([asdict(row) for row in rows])
        digest = hmac.new(self.kept.seal_key, told, hashlib.sha256).hexdigest()
        return self.kept.folder / f"{self._name({'rows': [kind, digest]})}.json"

    def _name(self, of: dict[str, Any]) -> str:
        """Of all that decides the numbers; of rows only a keyed digest."""
        named = {"key": self.kept.commitment, **of, "renderings": self.renderings, **self.decides}
        return hashlib.sha256(custody.canonical(named)).hexdigest()[:32]


def digest_of(audited: Audited) -> str | None:
    """Of all files that decide what a model says: its own, its base's and its template's. None of a model
    behind a URL, and where a folder has none of them.
    """
    files = None if audited.endpoint else _files(audited)
    return hashlib.sha256(custody.canonical(files)).hexdigest() if files else None


def _decides(audited: Audited) -> dict[str, Any] | None:
    """The files that a model, its base and its template are read from, and what reads them; None where a
    folder has none, so that opening says what is wrong.
    """
    from dpaudit.models import number_formats

    files = _files(audited)
    if files is None:
        return None
    libraries = {name: version(name) for name in LIBRARIES}
    return {**files, "machine": number_formats.machine(), "dpaudit": __version__, "libraries": libraries}


def _files(audited: Audited) -> dict[str, dict[str, str]] | None:
    """The digests of the files of a model, its base and its template; None where a folder has none."""
    from dpaudit.models import hf

    template = Path(audited.tokenizer).expanduser() if audited.tokenizer else None
    if template is not None and not template.is_dir():
        template = Path(hf.resolve(str(audited.tokenizer)))
    base = audited.base_name()
    files = {
        "model": _digests(audited.adapter) if audited.adapter else weights.of_base(str(audited.model)),
        **({"base": weights.of_base(base)} if base else {}),
        **({"template": _digests(template)} if template else {}),
    }
    return files if all(files.values()) else None


def _digests(folder: Path) -> dict[str, str]:
    """Every file that is read, by its place in the folder."""
    return {file.relative_to(folder).as_posix(): digest for file, digest in weights.of_folder(folder).items()}


def _plain(both: Scores) -> list[list[list[list[float]]] | None]:
    return [None if said is None else plain_of(said) for said in both]


def plain_of(said: "Sequence[SecretScores]") -> list[list[list[float]]]:
    return [[part.tolist() for part in (one.logprob, one.mean, one.std)] for one in said]


def scores_of(parts: list[list[list[float]]]) -> "list[SecretScores]":
    import numpy as np

    from dpaudit.models.secret_spans import SecretScores

    return [SecretScores(*(np.array(part, dtype=np.float32) for part in one)) for one in parts]


def _read(both: list[list[list[list[float]]] | None]) -> Scores:
    audited, base = (scores_of(said or []) for said in both)
    return audited, base if both[1] is not None else None
