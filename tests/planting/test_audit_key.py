"""A key that somebody sealed again: every inner value is of its own type and kind, or the key is refused in
one line.
"""

import json
import random
from pathlib import Path
from typing import Any

import fuzzing
import numpy as np
import pytest
import strangers
from test_plant import planted

from dpaudit.errors import UsageError
from dpaudit.models.secret_spans import SecretScores, texts_of
from dpaudit.planting import audit_key
from dpaudit.privacy.claim import Claim
from dpaudit.stages.asking import Answers

SHAPES = ("sharegpt", "pair", "text")
EDITS: list[tuple[list[Any], Any]] = [
    (["unit"], 3),
    (["unit"], "pair"),
    (["family"], None),
    (["rows"], "7"),
    (["rows"], True),
    (["bits"], -1),
    (["bits"], "20"),
    (["taken"], None),
    (["visibility"], 0.5),
    (["visibility", "auc"], 1.5),
    (["visibility", "found"], float("nan")),
    (["visibility", "planted"], -1),
    (["visibility", "more"], 1),
    (["version"], True),
    (["version"], 1.0),
    (["coins"], "x"),
    (["coins", 0], 1),
    (["coins", 0], "true"),
    (["coins"], []),
    (["hash_key"], "0" * 63),
    (["hash_key"], 7),
    (["data_digest"], ["a"]),
    (["rule"], None),
    (["rule", "guesses"], 1.5),
    (["rule", "guesses"], 10**400),
    (["rule", "guesses"], -1),
    (["rule", "renderings"], []),
    (["rule", "renderings"], [1]),
    (["rule", "renderings"], "chat"),
    (["rule", "primary", "kind"], "extract"),
    (["rule", "primary", "reference"], "shadows"),
    (["rule", "primary", "bound"], None),
    (["rule", "primary", "bound", "confidence"], float("nan")),
    (["rule", "primary", "bound", "guess", "fraction"], "0.4x"),
    (["rule", "primary", "parameters"], {"k": 3}),
    (["rule", "without_base", "bound"], None),
    (["rule", "without_base", "signal"], "lowercase"),
    (["rule", "without_base", "reference"], "base"),
    (["canaries"], {}),
    (["canaries", 0], None),
    (["canaries", 0, "secret"], 7),
    (["canaries", 0, "secret"], ""),
    (["canaries", 0, "secret"], "not in the answer"),
    (["canaries", 0, "secret"], ["amber"]),
    (["canaries", 0, "rejected"], 0),
    (["canaries", 0, "rejected"], "x"),
    (["canaries", 0, "record"], []),
    (["canaries", 0, "record", "id"], 7),
    (["canaries", 0, "record", "turns"], []),
    (["canaries", 0, "record", "turns"], "x"),
    (["canaries", 0, "record", "turns", 0], "x"),
    (["canaries", 0, "record", "turns", 0, "text"], 3),
    (["canaries", 0, "record", "turns", 0, "text"], "\ud800"),
    (["canaries", 0, "record", "turns", 0, "role"], None),
    (["canaries", 0, "record", "turns", 0, "more"], 1),
    (["canaries", 0, "record", "text"], "a text beside"),
    (["canaries", 0, "record", "chosen"], "x"),
    (["canaries", 0, "record", "rejected"], 5),
    (["canaries", 0, "more"], 1),
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    made = {}
    for shape in SHAPES:
        _, path, _ = planted(tmp_path_factory.mktemp(shape), shape)
        made[shape] = json.loads(path.read_text())
    return made


def sealed(data: Any, path: Path) -> Path:
    """The file of a key as somebody leaves it who edits it and computes both of its hashes again."""
    try:
        rule = data["rule"]
        rule["primary_digest"] = audit_key.build(audit_key.Recipe, rule["primary"], file="").digest
    except (UsageError, TypeError, KeyError, ValueError):
        pass
    if isinstance(data, dict):
        data.pop("seal", None)
        data["seal"] = audit_key._seal(data)
    path.write_text(json.dumps(data))
    return path


def secrets_of(data: dict[str, Any]) -> list[str]:
    return [canary["secret"] for canary in data["canaries"]]


@pytest.mark.parametrize(("place", "value"), EDITS)
def test_a_value_of_another_kind_is_one_line(
    place: list[Any], value: Any, keys: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    data = json.loads(json.dumps(keys["sharegpt"]))
    holder = data
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(UsageError, match=r"^--key .*k\.json: expected ") as caught:
        audit_key.load(sealed(data, tmp_path / "k.json"))
    told = str(caught.value)
    assert len(told) < 600 and not any(secret in told for secret in secrets_of(keys["sharegpt"]))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_key_that_is_only_sealed_again_is_taken(
    shape: str, keys: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    data = json.loads(json.dumps(keys[shape]))
    assert len(audit_key.load(sealed(data, tmp_path / "k.json")).coins) == 100


@pytest.mark.parametrize("shape", SHAPES)
def test_any_edit_is_refused_or_judged(shape: str, keys: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """What `load` lets pass goes on to texts, scores, coins and a verdict without a fault."""
    taken, secrets = 0, secrets_of(keys[shape])
    for seed in range(120):
        draw = random.Random(seed)
        path = sealed(fuzzing.mutated(keys[shape], draw), tmp_path / "k.json")
        if seed % 4 == 0:
            path.write_bytes(fuzzing.mutated_bytes(path.read_bytes(), draw))
        try:
            key = audit_key.load(path)
            audit_key.check(key, path)
            judged(key)
        except UsageError as error:
            assert str(error).isprintable() and not any(s in str(error) for s in secrets), (seed, str(error))
            continue
        taken += 1
    assert 0 < taken < 100


def judged(key: audit_key.AuditKey) -> None:
    """A verdict from scores that know nothing."""
    draw = np.random.default_rng(0)
    answers = []
    for rendering in key.rule.renderings:
        if rendering != "chat" and (texts := texts_of(key.canaries, rendering, None)):
            said = [SecretScores(*draw.normal(-3, 1, (3, 4))) for _ in texts]
            answers.append(Answers(rendering, tuple(text.secret for text in texts), said, None))
    strangers.judged(key, Claim(3.0, 1e-5, key.unit, "add_or_remove"), answers)
