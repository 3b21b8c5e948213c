"""Libraries that read foreign files: any exception that they raise becomes one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from dpaudit.errors import UsageError
from dpaudit.system import interrupts

MOST = 160  # characters of a library's own words


@contextmanager
def told(where: str, *, expected: str, remedy: str = "") -> Iterator[None]:
    """Turns an exception inside the block into a UsageError that names its kind and its first words.

    Libraries raise what they like on a folder that is broken: tokenizers `Exception` itself, Transformers a
    KeyError, an AssertionError or a ZeroDivisionError for a value in config.json. So keep the block to calls
    of a library that reads model files, which hold no private text.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        if interrupts.came():
            raise KeyboardInterrupt from error
        raise UsageError(where, expected, named(error), remedy) from error


def named(error: Exception) -> str:
    """The kind of an exception and its message, on one line."""
    kind, message = type(error).__name__, " ".join(str(error).split())
    return f"{kind}: {message:.{MOST}}" if message else f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
