"""Models of a hub: fetching them, and finding fetched ones. All other modules read local folders."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from dpaudit.errors import PartialError, UsageError
from dpaudit.models import border
from dpaudit.system import egress, interrupts

# files that a causal language model in safetensors is read from: no code, no pickles
_SMALL = ("*.json", "*.jinja", "*.txt", "*.model")
_WEIGHTS = ("model*.safetensors",)
ID = re.compile(r"\w[\w.-]*/[\w.-]*\w", re.ASCII)  # OWNER/NAME
WAITED = 5.0  # seconds for the hub to answer at all


def is_id(base: str) -> bool:
    """Whether `base` has the form of a hub id, OWNER/NAME, and names no folder."""
    is_named = ID.fullmatch(base) is not None and not any(two in base for two in ("--", ".."))
    return is_named and not Path(base).is_dir()


def fetched(base: str) -> Path | None:
    """The local folder of a hub id that was fetched before; None without one. The hub is not asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(base, "config.json")
    except HFValidationError:
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def host() -> str:
    """The host that `--allow-egress` names to have the hub asked."""
    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT


def require_answer(what: str, way: str) -> None:
    """Raises PartialError where the hub does not answer within seconds, before a library asks it at length.
    `way` goes without a hub.
    """
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=WAITED)
    except Exception as error:
        if interrupts.came():
            raise KeyboardInterrupt from error
        raise PartialError(
            f"{what}, and {constants.ENDPOINT} does not answer; items from a file need none: {way} "
            f"(docs/content.md)"
        ) from None


def fetch(base: str | None, option: str, weights: bool = True) -> None:
    """Fetches a typed hub id's configuration and tokenizer, and its weights unless they are not asked for.

    Does nothing for a name that is no hub id, or that was fetched already. Raises UsageError where the hub
    cannot be reached or has no such model.
    """
    if base is None or not is_id(base):
        return
    place = fetched(base)
    if place is not None and (not weights or any(place.glob("*.safetensors"))):
        return
    from huggingface_hub import snapshot_download

    egress.allow(base)
    as_usage_error = border.told(
        f"{option} {base}",
        expected="a model that the hub gives",
        remedy="check the id and the network, or give a folder",
    )
    with egress.asking(base, option), as_usage_error:
        place = Path(snapshot_download(base, allow_patterns=[*_SMALL, *(_WEIGHTS if weights else ())]))
    if weights and not any(place.glob("*.safetensors")):
        raise UsageError(
            f"{option} {base}",
            "a model in safetensors",
            "a repository without model*.safetensors",
            "convert it (save_pretrained) and give the folder",
        )
