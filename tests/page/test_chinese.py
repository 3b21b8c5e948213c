"""The page in Chinese: every sentence, the same figures and tags; what stays English is counted and told."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html import escape, unescape
from pathlib import Path

import fabricate
import pytest

from dpaudit.findings.report import Report
from dpaudit.page import catalogue, chinese, markdown
from dpaudit.page.render import render, render_public
from dpaudit.stages import report, report_public

MARKS = ("strong", "em", "a", "code", "data", "span")
NUMBER = re.compile(r"\d[\d,.]*\d|\d")
HAN = re.compile("[一-鿿]")
ENGLISH = re.compile(r"\b[a-z]{2,} [a-z]{2,}\b")
COMMAND = re.compile(r"dpaudit [ -~]+")
KINDS: dict[str, Callable[[Path], str]] = {
    "whole": lambda runs: _page(runs, fabricate.ALL),
    "unfit judge": lambda runs: render(report.present(*fabricate.run(runs, judge_fit=False))),
    "known seed": lambda runs: render(report.present(*fabricate.run(runs, insecure_seed=3))),
    "no attack": lambda runs: _page(runs, ("train", "evaluate")),
    "no quality": lambda runs: _page(runs, ("train", "audit")),
    "trained alone": lambda runs: _page(runs, ("train",)),
    "one arm": lambda runs: render(_one_arm(runs)),
    "public": lambda runs: render_public(report_public.present(*fabricate.run(runs))),
    "public, untested": lambda runs: render_public(report_public.present(*fabricate.run(runs, ("train",)))),
}
OWN = "A synthetic clinic: what a claim of 1, 4 and 8 is worth, and what it cost."  # a user's description


def _page(runs: Path, stages: tuple[str, ...]) -> str:
    return render(report.present(*fabricate.run(runs, stages)))


def _one_arm(runs: Path) -> Report:
    whole = report.present(*fabricate.run(runs, ("train", "audit")))
    arm = next(arm for arm in whole.arms if arm.private)
    audits = tuple(audit for audit in whole.audits if audit.arm == arm.arm)
    found = tuple(found for found in whole.recipes if found.arm == arm.arm)
    return replace(whole, arms=(arm,), audits=audits, recipes=found, release=())


@pytest.fixture(scope="module", params=KINDS)
def english(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return KINDS[request.param](tmp_path_factory.mktemp("runs")).replace(OWN, "")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report.present(*fabricate.run(tmp_path_factory.mktemp("runs")))


def blocks(html: str) -> list[str]:
    """The texts between tags that no sentence runs across, and what is spoken; no code and no names."""
    html = re.sub(r"<(style|pre|code)\b.*?</\1>", "", html, flags=re.DOTALL)
    html = re.sub(r'<(\w+)[^>]* translate="no"[^>]*>.*?</\1>', "", html, flags=re.DOTALL)
    spoken = re.findall(r'aria-label="([^"]*)"', html)
    html = re.sub(rf"</?(?:{'|'.join(MARKS)})\b[^>]*>", "", html)
    return [" ".join(unescape(text).split()) for text in [*re.split(r"<[^>]*>", html), *spoken]]


def tags(html: str) -> list[str]:
    html = re.sub(r' aria-label="[^"]*"', "", html.replace('lang="zh-CN"', 'lang="en"'))
    return sorted(re.findall(r"<[^>]*>", html))


def without_foot(html: str) -> str:
    return re.sub(r"<p>本页译自.*?</p>\n", "", html)


def test_no_english_sentence_remains_and_no_figure_changes(english: str) -> None:
    made = chinese.page(english)
    assert made.english == 0 and "（0 句）" in made.text
    said = without_foot(made.text)
    assert tags(said) == tags(english)
    assert re.findall(r"<(?:t[dhr]|table|section|h\d)\b", said) == re.findall(
        r"<(?:t[dhr]|table|section|h\d)\b", english
    )
    pairs = list(zip(blocks(english), blocks(said), strict=True))
    for before, after in pairs:
        assert Counter(NUMBER.findall(before)) == Counter(NUMBER.findall(after)), (before, after)
        assert not ENGLISH.search(COMMAND.sub("", after)), after
    assert sum(bool(HAN.search(after)) for _, after in pairs) > 40
    assert '<html lang="zh-CN">' in said and "匿名" not in said and "合规" not in said


def test_a_sentence_without_a_translation_is_counted_and_told(whole: Report) -> None:
    page = render(whole).replace(OWN, "")
    planted = page.replace("<h2>Terms</h2>", "<h2>Terms</h2><p>Nobody wrote this one. Nor this.</p>")
    made = chinese.page(planted)
    assert made.english == 2 and "2 句没有译文，仍为英文" in made.text
    assert "Nobody wrote this one. Nor this." in made.text
    half = page.replace("<h2>Terms</h2>", "<p><strong>Why:</strong> the moon is full.</p>")
    assert chinese.page(half).english == 1 and "原因：</strong>the moon is full。" in chinese.page(half).text


HOSTILE = (
    '<script>alert("1")</script>',
    "{why} {0} {{ x }} {n1} of {n2}",
    "\u202erefuted\u202c it is not",
    "&lt;b&gt; not refuted",
    chr(catalogue.FIRST_ATOM) + chr(catalogue.LAST_ATOM) + " a word here",
    "\x00 zero, and more words",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_escaped_text(whole: Report, text: str) -> None:
    run = replace(whole.run, description=f"{text} is not known here", title=text, name=text)
    release = tuple(replace(row, why=text, next_step=text) for row in whole.release)
    page = render(replace(whole, run=run, release=release))
    made = without_foot(chinese.page(page).text)
    assert tags(made) == tags(page) and "<script" not in made
    for sign in (*"{}\x00", chr(catalogue.FIRST_ATOM), chr(catalogue.LAST_ATOM), "&lt;", "\u202e", "\u202c"):
        assert made.count(sign) == page.count(sign), sign


def test_names_and_answers_of_others_stay_as_they_are(whole: Report) -> None:
    named = render(replace(whole, run=replace(whole.run, suite="not refuted", name="must not be released")))
    made = chinese.page(named).text
    assert '<span translate="no">not refuted</span>' in made and "<code>must not be released</code>" in made
    answers = re.findall(r'<td class="said"><span translate="no">.*?</span></td>', named)
    assert answers and all(answer in made for answer in answers)


@pytest.mark.parametrize("word", ["A word. ", "<i>, "])
def test_a_megabyte_of_text_is_one_sentence(whole: Report, word: str) -> None:
    page = render(replace(whole, run=replace(whole.run, description=word * 125_000)))
    made = chinese.page(page)
    assert made.english == 1 and tags(without_foot(made.text)) == tags(page)
    assert made.text.count(escape(word)) == 125_000


def test_a_word_before_a_figure_is_no_name(whole: Report) -> None:
    page = render(whole).replace(OWN, "").replace("<h2>Terms</h2>", '<p>Weight: <data value="1">1</data></p>')
    assert chinese.page(page).english == 1


def test_markdown_is_of_the_same_page(whole: Report) -> None:
    made = markdown.of_page(chinese.page(render(whole)).text)
    assert "## 可以发布吗？" in made and "不得发布" in made and "本页译自英文页" in made


def test_a_line_of_the_terminal() -> None:
    why = (
        "its claim of epsilon 1 is not refuted, a third of the noise would have been caught with probability "
    )
    line = chinese.plain(f"{why}0.99, and none of 32 planted secrets came out")
    assert line == catalogue.Translated(
        "其 ε = 1 的主张未被推翻，三分之一的噪声会以 0.99 的概率被发现，32 个植入的秘密无一泄出", 0
    )
    assert chinese.plain("a < b & it's <i>other</i> words") == catalogue.Translated(
        "a < b & it's <i>other</i> words", 1
    )


# ---- the catalogue

ENTRIES = catalogue.entries()
WORDS = {  # one Chinese word each, wherever the English one stands
    r"(?<!un)\bnot refuted\b(?! of|;)": "未被推翻",
    r"\bmust not be released\b": "不得发布",
    r"\bmay be released under its claim\b": "可按其主张发布",
    r"\bno power\b": "检验力不足",
    r"\bnot established\b": "未能确立",
    r"(?<!candidates\.)\bcanar(?:y|ies)\b": "金丝雀",
    r"(?<!audited )\badapters?\b": "适配器",
    r"\bledgers?\b": "账本",
}


def test_an_entry_has_the_same_slots_figures_and_marks_on_both_sides() -> None:
    for source, target in ENTRIES.items():
        slots = catalogue.SLOT.findall(source)
        assert sorted(slots) == sorted(catalogue.SLOT.findall(target)), source
        assert len(set(slots)) == len(slots), source
        assert "}{" not in source, f"two slots side by side, {source}: which takes what would be chance"
        bare, said = (catalogue.SLOT.sub(" ", text) for text in (source, target))
        for kind in (NUMBER, re.compile(r"<[^>]*>")):
            assert Counter(kind.findall(bare)) == Counter(kind.findall(said)), source
        assert set(re.findall(r"</?([^>]*)>", said)) <= {"strong", "em", "a"} and '"' not in said, source
        assert not re.search("匿名|合规|!", said) and not ENGLISH.search(said), source
        takes_names_alone = slots and set(slots) <= set(catalogue.NAMES)
        assert not takes_names_alone or re.search(r"[A-Za-z]", bare), f"{source} takes any text"


def test_the_words_of_the_verdicts_are_the_same_everywhere() -> None:
    for english, word in WORDS.items():
        apart = [
            source
            for source, said in ENTRIES.items()
            if re.search(english, catalogue.SLOT.sub("", source)) and word not in said
        ]
        assert apart == [], english


def test_the_beginning_of_a_sentence_is_no_name() -> None:
    """`{arm} by {recipe} {rest}` fits a list whose first part ends in a comma, too."""
    said = catalogue.said("answers, by a judge; what untried prompts bring out")
    assert said == catalogue.Translated("由评审模型评判的回答；未试过的提示会引出什么", 0)
    assert catalogue.said("sft-eps8 by loss").english == 0


def test_why_a_small_run_has_no_canaries_along_axes_is_said() -> None:
    why = "312 units: a fifth of them, the most that such canaries may be, is below 100"
    assert catalogue.said(f"sft-eps1 (no canaries along axes: {why})").english == 0
