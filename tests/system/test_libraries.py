"""Libraries' notices are silenced by name, and nothing else of theirs."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from dpaudit.privacy import accountants
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.system import libraries


def test_every_silenced_notice_has_a_reason() -> None:
    assert all(len(why) > 5 for *_, why in (*libraries.NOTICES, *libraries.LOGGED))


def test_the_accountants_excluded_orders_are_not_told_and_its_faults_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from absl import logging as absl_logging

    accountants.epsilon_rdp(Mechanism(64.0, 0.5, steps=1, clip=1.0), 1e-5)
    assert not caplog.records
    absl_logging.warning("Negative Renyi divergence of %s", -1.0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("library", libraries.SLOW)
def test_what_takes_seconds_to_load_is_told_once_before_it_begins(library: str) -> None:
    """In a new process, by what looks for a library as `import` does."""
    script = (
        "import importlib.util, sys\nfrom dpaudit.system import libraries\nlibraries.announce(lambda line: "
        "print(line, 'torch' in sys.modules))\n"
        f"for name in ('wave', '{library}', '{library}'):\n    importlib.util.find_spec(name)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(libraries.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{libraries.SLOW[library]} False\n"


def test_a_mistake_that_needs_no_library_stays_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(libraries.__file__).parents[2])}
    command = [sys.executable, "-m", "dpaudit", "train", "--suite", "none"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_length_is_not_told_and_other_lines_of_the_tokenizer_are(caplog: pytest.LogCaptureFixture) -> None:
    libraries.hush()
    logger = logging.getLogger("transformers.tokenization_utils_base")
    logger.warning("Token indices sequence length is longer than the specified maximum")
    logger.warning("a fault")
    assert [record.message for record in caplog.records] == ["a fault"]


def test_a_notice_of_peft_is_not_told_and_its_faults_are() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        libraries.hush()
        warnings.warn("Could not find a config file in x - will assume", UserWarning, stacklevel=1)
        warnings.warn("Found missing adapter keys while loading", UserWarning, stacklevel=1)
    assert [str(one.message) for one in told] == ["Found missing adapter keys while loading"]
