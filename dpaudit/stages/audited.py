"""What is audited: a model that somebody else trained, as it was named."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dpaudit.errors import UsageError


@dataclass(frozen=True)
class Audited:
    """What is audited: an adapter, a whole model with its base, or a served model (`model` and `base` are its
    names there).
    """

    adapter: Path | None = None
    model: str | None = None
    endpoint: str | None = None
    base: str | None = None
    allow_egress: tuple[str, ...] = ()
    tokenizer: str | None = None  # the folder whose chat template its dialogues need

    @property
    def name(self) -> str:
        """As it was typed; of a server that names its only model itself, its address."""
        return str(self.adapter or self.model or self.endpoint)

    def base_name(self) -> str | None:
        """The base as it was named, or else as the adapter's folder names it. Raises UsageError for a folder
        that is no adapter, or that names none.
        """
        from dpaudit.models import secret_spans

        return secret_spans.base_of(self.adapter, self.base) if self.adapter else self.base


def each(adapters: Sequence[Path], named: Audited) -> list[Audited]:
    """What is audited, in the order of `adapters`; one folder is one adapter, however it is written. Without
    an adapter it is what was `named`.
    """
    first = {adapter.absolute().resolve(): adapter for adapter in reversed(adapters)}
    written = [first[adapter.absolute().resolve()] for adapter in adapters]
    return [replace(named, adapter=adapter) for adapter in written] or [named]


def require(audited: Audited, command: str = "dpaudit verify", may_be_alone: bool = False) -> None:
    """Raises UsageError for a model that is not named whole, or not there. No weights are read. A whole model
    that `may_be_alone` needs no base.
    """
    if (audited.adapter is not None) + (audited.endpoint is not None or audited.model is not None) != 1:
        raise UsageError(
            command,
            "one of --adapter DIR, --model DIR with --base DIR, --endpoint URL",
            "no model" if audited.adapter is None else "two models",
        )
    if audited.endpoint is not None:
        return
    from dpaudit.models import hub, secret_spans

    hub.fetch(audited.base, "--base")
    hub.fetch(audited.model, "--model")
    if audited.base is not None:
        secret_spans.check_folder(audited.base, "--base")
    if audited.tokenizer is not None:
        hub.fetch(audited.tokenizer, "--tokenizer", weights=False)
    base = audited.base_name()
    if base is None and not may_be_alone:
        raise UsageError(
            "--base",
            "the model that was fine-tuned, for a merged model",
            "no base",
            "without it what was learned cannot be told from what was known; add --base DIR",
        )
    if base is not None:
        secret_spans.check_folder(base, "--base")
    if audited.model is not None:
        secret_spans.check_folder(audited.model, "--model")
