"""In which script a text is written."""

import pytest

from dpaudit.data.scripts import language_of, script_of


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("The dose is 5 mg, twice a day.", "Latin"),
        ("dos comprimidos al d\u00eda, seg\u00fan la prescripci\u00f3n", "Latin"),
        ("\u6bcf\u65e5\u670d\u7528 Atorvastatin 20 mg", "Han"),  # four characters beside two words
        ("Take \u4eba\u53c2 with food, not before sleep", "Latin"),
        ("\u304a\u85ac\u3092\u98f2\u307f\u307e\u3059", "kana"),
        ("\u043f\u0440\u0438\u043d\u0438\u043c\u0430\u0442\u044c", "Cyrillic"),
        ("5 / 3 !", "other"),
        ("", "other"),
    ],
)
def test_the_script_with_most_words_is_told(text: str, script: str) -> None:
    assert script_of(text) == script


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The dose is 5 mg, twice a day.", "English"),
        ("Nehmen Sie die Tabletten zweimal am Tag ein, und es war so gut in der Nacht.", None),
        ("Il a mal \u00e0 la t\u00eate et on me dit non; prenez deux comprim\u00e9s par jour.", None),
        ("Tome dos comprimidos al d\u00eda, no me gusta a la hora de comer.", None),
        ("\u6bcf\u65e5\u670d\u7528 Atorvastatin 20 mg", "Chinese"),
        ("\u6bce\u65e5\u4e8c\u56de\u3001\u98df\u5f8c\u306b\u98f2\u3080", "Japanese"),
        ("\u043f\u0440\u0438\u043d\u0438\u043c\u0430\u0442\u044c", None),  # Cyrillic: of many languages
        ("", None),
    ],
)
def test_a_language_is_told_where_it_shows(text: str, language: str | None) -> None:
    assert language_of(text) == language
