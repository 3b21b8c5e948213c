"""What a free answer must not get wrong: drugs, doses, warnings, numbers, compared with those of a
reference.

All are found by rules: an unusual spelling is missed, in answer and reference alike.
"""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from dpaudit.judging.overlap import CHINESE, is_chinese_word, words


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


UNITS = {  # as written -> (unit, how many of it)
    written: (unit, factor)
    for unit, factor, spellings in (
        ("mg", 1e6, "kg 千克 公斤"),
        ("mg", 1e3, "g 克"),
        ("mg", 1.0, "mg 毫克"),
        ("mg", 1e-3, "mcg μg ug 微克"),
        ("ml", 1e3, "l 升"),
        ("ml", 1.0, "ml 毫升"),
        ("iu", 1.0, "iu unit units 单位"),
        ("mmol", 1.0, "mmol"),
        ("tablet", 1.0, "tablet tablets 片"),
        ("capsule", 1.0, "capsule capsules 粒"),
        ("drop", 1.0, "drop drops 滴"),
        ("puff", 1.0, "puff puffs 喷"),
    )
    for written in spellings.split()
}
STEMS = _words(  # of international nonproprietary names: the ends of words that name drugs
    "cillin mycin micin cycline floxacin azole statin sartan pril olol dipine prazole tidine gliptin "
    "gliflozin glutide formin parin xaban gatran mab nib vir caine azepam zolam barbital triptyline oxetine "
    "setron triptan profen fenac coxib sone solone semide thiazide buterol meterol moterol tropium lukast "
    "dronate platin taxel rubicin exate otine"
)
NAMES = frozenset(  # common drugs that no stem tells
    _words(
        "aspirin paracetamol acetaminophen insulin warfarin heparin morphine codeine tramadol fentanyl "
        "digoxin lithium adrenaline epinephrine levothyroxine amiodarone gabapentin pregabalin phenytoin "
        "clopidogrel spironolactone loperamide methadone naloxone"
    )
)
STEMS_ZH = _words(
    "西林 霉素 环素 沙星 他汀 沙坦 普利 洛尔 地平 拉唑 康唑 硝唑 替丁 列汀 列净 肝素 沙班 单抗 替尼 洛韦 "
    "那韦 卡因 西泮 唑仑 西汀 司琼 洛芬 昔布 地松 松龙 噻嗪 特罗 司特 膦酸 匹林"
)
JOINED_ZH = "有吃或如的用和及与"  # what jieba leaves on the front of a name that is not in its dictionary
NAMES_ZH = frozenset(  # found wherever they stand
    _words("二甲双胍 对乙酰氨基酚 胰岛素 吗啡 华法林 地高辛 头孢克肟 头孢呋辛 头孢曲松 氯吡格雷 硝酸甘油")
)
NUMBER = r"(?<!\d)(?:\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
_UNITS = "|".join(sorted(UNITS, key=len, reverse=True))
# CMT2L is a gene, 20210G>A a variant, and L4 L5 are vertebrae
DOSE = re.compile(
    rf"(?<![a-z\d.])({NUMBER})\s?-?\s?({_UNITS})(?![a-z\d>])(\s?/\s?(?:kg|公斤|千克))?", re.IGNORECASE
)
_NUMBER = re.compile(rf"({NUMBER})\s?(%?)")
_SENTENCE = re.compile(r"[.!?;]+(?:\s+|$)|[。！？；!?;]|\n+")
_WARNING = re.compile(
    r"\b(?:do not|don't|never|avoid|must not|should not|contraindicated|caution|warning|not recommended)\b"
    r"|禁用|禁止|禁忌|忌|慎用|避免|切勿|不可|不能|不要|不宜|不得|勿|注意"
)
_STOP = frozenset(_words("a an and any as at be by for from if in is it of on or the this to with you your"))
FIELDS = ("drug", "dose", "warning", "number")
INVENTED = ("drug", "dose")  # that an answer may not name where its reference does not
_SAME = 0.5  # of a warning's words that an answer's warning must have


@dataclass(frozen=True)
class Match:
    """One field of an answer against its reference: values of the reference, those the answer has, and values
    that only the answer has.
    """

    wanted: int
    found: int
    other: int

    @property
    def agreement(self) -> float | None:
        """1 where the answer has all values of the reference and no other, 0 where it has none of them (the F
        measure); None where the reference has none.
        """
        return 2 * self.found / (self.wanted + self.found + self.other) if self.wanted else None

    @property
    def invented(self) -> float | None:
        """1 where the reference has no value and the answer has one, 0 where neither has; None where the
        reference has one.
        """
        return None if self.wanted else float(self.other > 0)


def match(answer: str, reference: str, drug_names: Collection[str] = ()) -> dict[str, Match]:
    """Field -> how the answer's values compare with the reference's. `drug_names`: names to find beside the
    known ones.
    """
    return {
        "drug": _compared(drugs(answer, drug_names), drugs(reference, drug_names)),
        "dose": _compared(doses(answer), doses(reference)),
        "warning": _same_warnings(warnings(answer), warnings(reference)),
        "number": _compared(numbers(answer), numbers(reference)),
    }


def is_right(answer: str, reference: str, drug_names: Collection[str] = ()) -> bool | None:
    """Whether an answer names all that its reference does in every field that the reference has, nothing else
    in these, and no drug or dose where the reference has none; None where the reference has no field.
    """
    found = match(answer, reference, drug_names)
    asked = [field for field in found.values() if field.wanted]
    if not asked:
        return None
    return all(field.agreement == 1 for field in asked) and not any(found[n].invented for n in INVENTED)


def drugs(text: str, names: Collection[str] = ()) -> frozenset[str]:
    """The drugs that a text names, in small letters: the words of `names`, those that are well known, and
    those that end as drugs do (see STEMS).
    """
    known, plain = NAMES | NAMES_ZH | {_plain(name) for name in names}, _plain(text)
    found = {name for name in known if CHINESE.search(name) and name in plain}
    before = ""
    for word in words(text):
        if word.endswith(STEMS_ZH):
            is_piece = word in STEMS_ZH and CHINESE.match(before) and not is_chinese_word(before)
            found.add((before + word if is_piece else word).lstrip(JOINED_ZH))
        elif word in known or (len(word) > 6 and word.endswith(STEMS)):
            found.add(word)
        before = word
    return frozenset(found)


def doses(text: str) -> frozenset[tuple[float, str]]:
    """The amounts with a unit that a text names, in one unit each: 0.5 g and 500 毫克 are (500.0, "mg")."""
    found = set()
    for number, unit, per_weight in DOSE.findall(_plain(text)):
        name, factor = UNITS[unit]
        found.add((round(_value(number) * factor, 9), f"{name}/kg" if per_weight else name))
    return frozenset(found)


def numbers(text: str) -> frozenset[tuple[float, str]]:
    """The numbers of a text that are written in digits, percentages apart from others."""
    return frozenset((_value(number), percent) for number, percent in _NUMBER.findall(_plain(text)))


def warnings(text: str) -> tuple[frozenset[str], ...]:
    """What each sentence with a warning in it warns of: its words beside those of the warning itself."""
    found = []
    for sentence in _SENTENCE.split(_plain(text)):
        if mark := _WARNING.search(sentence):
            about = frozenset(words(sentence[mark.end() :])) - _STOP
            found.append(about or frozenset(words(sentence)) - _STOP)
    return tuple(found)


def _compared(answer: frozenset[object], reference: frozenset[object]) -> Match:
    return Match(len(reference), len(answer & reference), len(answer - reference))


def _same_warnings(answer: tuple[frozenset[str], ...], reference: tuple[frozenset[str], ...]) -> Match:
    """A warning of the reference is found where one of the answer's has at least half of its words."""

    def says(one: frozenset[str], other: frozenset[str]) -> bool:
        return len(one & other) >= max(1.0, _SAME * len(other))

    found = sum(any(says(mine, wanted) for mine in answer) for wanted in reference)
    other = sum(not any(says(mine, wanted) for wanted in reference) for mine in answer)
    return Match(len(reference), found, other)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _value(number: str) -> float:
    return float(number.replace(",", ""))
