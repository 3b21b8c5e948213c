import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dpaudit import content
from dpaudit.errors import UsageError
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Guess, Recipe
from dpaudit.signals.text import SIGNALS, Combination
from dpaudit.stats.epsilon import epsilon_ceiling_one_run
from dpaudit.suite.grid import Grid
from dpaudit.suite.suite import Candidates, Schedule, Suite, Training

NAMES = sorted(path.stem for path in content.shipped("attacks").glob("*.yaml"))
SUITE = Suite("s", Training(Schedule(8, 4, 0.01), Schedule(8, 4, 0.01)))


def test_recipes_and_signals_name_each_other() -> None:
    found = [recipe.load(name) for name in NAMES]
    assert {one.signal for one in found if one.kind != "extract"} == set(SIGNALS)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_is_whole(name: str) -> None:
    found = recipe.load(name)
    assert found.name == name and "arXiv" in found.source and len(found.digest) == 32
    if found.kind != "extract":
        assert found.bound is not None and found.threat
        signal = found.make_signal()
        assert callable(signal) or isinstance(signal, Combination)
        least = found.minimum_canaries
        if isinstance(signal, Combination):
            least -= int(signal.share * least)  # what is fitted on does not count
        guesses = found.bound.guess.count(least)
        ceiling = epsilon_ceiling_one_run(
            canaries=least, guesses=guesses, delta=1e-5, confidence=found.bound.confidence
        )
        assert ceiling > 1  # with the fewest canaries that it takes, it can still refute epsilon 1
    else:
        assert found.bound is None


def edited(tmp_path: Path, **changes: object) -> Path:
    data = content.load_yaml(content.shipped("attacks") / "min_k_pp.yaml") | changes
    file = tmp_path / "min_k_pp.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))
    return file


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"treshold": 3}, "treshold"),
        ({"parameters": {"k": 20}}, "percent?"),
        ({"parameters": {"kk": 0.2}}, "parameters.kk"),
        ({"parameters": {}}, "parameters.k"),
        ({"signal": "min_kk"}, "did you mean min_k?"),
        ({"signal": "perplexity"}, "signal: expected one of calibrated, "),
        ({"reference": "bass"}, "reference"),
        ({"minimum_canaries": 10**400}, "minimum_canaries: expected a number below 2^63"),
        ({"minimum_canaries": 10**9}, "minimum_canaries: expected at most 1,000,000"),
        ({"signal": "calibrated", "parameters": {}}, "base, start or a model"),
        ({"signal": "lira_offline", "parameters": {}}, "reference: expected shadows for signal lira_offline"),
        ({"signal": "combination", "parameters": {"recipes": ["loss", "pair_margin"]}}, "kind mia"),
        (
            {"signal": "combination", "parameters": {"recipes": ["loss", "difference"]}},
            "whose reference is none",
        ),
        (
            {
                "signal": "combination",
                "parameters": {"recipes": ["loss", "calibrated"]},
                "reference": "base",
            },
            "recipes without calibration",
        ),
        ({"calibration": "slope"}, "calibration"),
        ({"calibration": "residual", "reference": "base"}, "calibration: expected none, or a signal among"),
        (
            {"calibration": "residual", "signal": "loss", "parameters": {}, "reference": "shadows"},
            "reference: expected a reference other than shadows for signal loss",
        ),
        ({"access": "telepathy"}, "access"),
        (
            {"access": "generation"},
            "access: expected distribution or weights for signal min_k_pp, got generation",
        ),
        (
            {"access": "logprobs"},
            "access: expected distribution or weights for signal min_k_pp, got logprobs",
        ),
        ({"signal": "gradient_norm", "parameters": {}}, "access: expected weights for signal gradient_norm"),
        (
            {"signal": "combination", "parameters": {"recipes": ["loss", "gradient_norm"]}},
            "access: expected weights for its part gradient_norm",
        ),
        ({"reference": "x" * 5000}, "reference"),
        ({"parameters": {"k": 10**400}}, "parameters.k"),
        (
            {"bound": {"method": "one-run", "guess": {"side": "in", "fraction": 1e-9}, "confidence": 0.95}},
            "bound.guess.fraction: expected a fraction that guesses",
        ),
        (
            {"signal": "combination", "parameters": {"recipes": ["loss", "nope"]}},
            "parameters.recipes: expected some of",
        ),
        (
            {"signal": "combination", "parameters": {"recipes": ["loss", "combination"]}},
            "other than combinations",
        ),
        (
            {"signal": "combination", "parameters": {"recipes": ["loss", "zlib"], "share": 0.1}},
            "are fitted on",
        ),
        (
            {"bound": {"method": "one-run", "guess": {"side": "in", "fraction": 0}, "confidence": 0.95}},
            "fraction",
        ),
        (
            {"bound": {"method": "one-run", "guess": {"side": "in", "fraction": 0.1}, "confidence": 95}},
            "confidence",
        ),
        ({"direction": "lower"}, "direction"),
        ({"name": "other"}, "name"),
        ({"source": None}, "source"),
    ],
)
def test_a_bad_recipe_is_one_line_with_file_and_key(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    file = edited(tmp_path, **changes)
    with pytest.raises(UsageError) as error:
        recipe.load(str(file))
    assert str(file) in str(error.value) and named in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"calibrated, combination, .*lira_online, loss"):
        recipe.load("lira")


def test_a_users_own_recipe_joins_the_shipped_ones(tmp_path: Path) -> None:
    data = content.load_yaml(content.shipped("attacks") / "loss.yaml") | {"name": "mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    assert "mine" in [found.name for found in recipe.load_all("mia", own=tmp_path)]


def test_the_digest_follows_the_content() -> None:
    found = recipe.load("loss")
    assert found.digest == recipe.load("loss").digest
    assert found.bound is not None
    other: Recipe = replace(found, bound=replace(found.bound, guess=Guess("in", 0.2)))
    assert other.digest != found.digest


@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_the_number_of_guesses_depends_on_the_number_of_canaries(fraction: float) -> None:
    assert [Guess("in", fraction).count(n) for n in (0, 9, 500)] == [
        math.floor(fraction * n) for n in (0, 9, 500)
    ]


def test_too_few_canaries_are_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"candidates\.canaries.*at least 100.*got 99.*--set"):
        recipe.check_candidates(replace(SUITE, candidates=Candidates(canaries=99)))
    with pytest.raises(UsageError, match=r"candidates\.extraction"):
        recipe.check_candidates(replace(SUITE, candidates=Candidates(extraction=2)))
    recipe.check_candidates(replace(SUITE, candidates=Candidates(canaries=0), attacks=("extract",)))
    recipe.check_candidates(SUITE)


def test_a_primary_that_proves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="primary"):
        recipe.check_candidates(replace(SUITE, primary="extraction"))
    with pytest.raises(UsageError, match="primary"):
        recipe.check_candidates(replace(SUITE, primary="pair_margin"))
    schedules = replace(
        SUITE.training, dpo_private=SUITE.training.private, dpo_nonprivate=SUITE.training.private
    )
    grid = Grid((8.0,), stages=(), dpo=("sigmoid",))
    recipe.check_candidates(
        replace(SUITE, training=schedules, grid=grid, primary="pair_margin", attacks=("preference",))
    )


def test_combinations_that_name_themselves_or_each_other_are_refused(tmp_path: Path) -> None:
    data = content.load_yaml(content.shipped("attacks") / "combination.yaml")
    for name, other in (("me", "me"), ("you", "me")):
        made = data | {"name": name, "parameters": {"recipes": ["loss", other]}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(made))
        with pytest.raises(UsageError, match="other than combinations"):
            recipe.load(name, tmp_path)


@pytest.mark.parametrize(
    "text", ["name: 2020-99-99", "y: !!int abc", "y: !!timestamp zz", "y: !!bool zz", "[" * 3000]
)
def test_yaml_that_its_reader_chokes_on_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"x\.yaml"):
        recipe.load("x", tmp_path)


def test_a_primary_over_shadows_is_refused() -> None:
    with pytest.raises(UsageError, match="needs no shadow models"):
        recipe.check_candidates(replace(SUITE, primary="rmia"))


@pytest.mark.parametrize("changes", [{"reference": "base"}, {"bound": recipe.load("loss").bound}])
def test_extraction_has_no_bound_and_no_reference(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected (none|no bound) for kind extract"):
        replace(recipe.load("extraction"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("extraction", {"samples": 10**12}, "samples: expected a whole number from 100"),
        ("discoverable", {"queries": [10**400]}, "queries: expected numbers up to"),
        ("discoverable", {"temperature": 1e-320}, "temperature: expected a number of 0.001"),
        ("window_comparison", {"most": 10**400}, "most: expected at most"),
        ("combination", {"penalty": 1e-320}, "penalty: expected a number in"),
    ],
)
def test_numbers_that_no_machine_could_serve_are_refused(
    name: str, parameters: dict[str, object], told: str
) -> None:
    made_by = recipe.load(name)
    with pytest.raises(UsageError, match=told):
        replace(made_by, parameters=made_by.parameters | parameters).make_signal()
