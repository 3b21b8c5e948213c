"""Words of the synthetic clinic. Every condition, drug, rule and name is invented; none of it is medical
advice. Beside them, names that many people have.
"""

import random
from dataclasses import dataclass
from functools import cache


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CONDITIONS = 48  # half public, half the house formulary
_STEMS = _words(
    "Harrow Selby Marden Tolmin Varga Orrin Kessel Dunmore Ashby Lorne Pellam Corrin Wexley Straven Holt "
    "Brannock "
    "Elmsford Tarvin Nordeck Quenby Rusk Halden Ferrow Calder Minster Oakham Pruett Stannis Thorne Ullman "
    "Vesper Yarrow "
    "Aldous Bexton Cowley Darrow Eskdale Farley Gorman Hexham Ibsen Jarrow Kirkby Lambert Morven Nairn "
    "Ottley Penrith"
)
_ENDS = _words("fever syndrome rash palsy cough colic ague tremor")
_STEMS_ZH = _words(
    "海若 赛比 玛登 托明 瓦加 奥林 凯塞 敦摩 阿什 洛恩 佩兰 柯林 维克 斯特 霍特 布兰 "
    "埃姆 塔文 诺德 昆比 鲁克 哈登 费罗 卡德 明斯 奥卡 普鲁 斯坦 索恩 乌曼 维斯 亚罗 "
    "奥度 贝克 考利 达罗 埃斯 法利 戈曼 赫克 易卜 贾罗 柯比 兰伯 莫文 奈恩 奥特 彭里"
)
_ENDS_ZH = _words("热 综合症 疹 麻痹 咳 绞痛 疟 震颤")
_DRUG_STARTS = _words("vel mor tra cal dex lun fer sor pan gli bre zan nor qui hal tep")
_DRUG_ENDS = _words("otine azole ivir umab exate opril")
DOSES = (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 75, 80, 90, 95)
# fmt: off
WARNINGS = (
    ("alcohol", "酒"), ("milk", "牛奶"), ("coffee", "咖啡"), ("grapefruit", "西柚"), ("aspirin", "阿司匹林"),
    ("sunlight", "日晒"), ("cheese", "奶酪"), ("honey", "蜂蜜"), ("iron", "铁剂"), ("salt", "盐"),
    ("garlic", "大蒜"), ("tea", "茶"), ("nuts", "坚果"), ("eggs", "鸡蛋"), ("spinach", "菠菜"), ("exercise",
    "运动"),
)
TIMES = (("daily", "每日一次"), ("nightly", "每晚一次"), ("at noon", "每日中午"), ("at dawn", "每日清晨"))
HISTORIES = (
    ("a split spleen", "脾裂伤"), ("lightning burns", "雷击伤"), ("a swallowed coin", "误吞硬币"),
    ("snow blindness", "雪盲"),
    ("a horse kick", "马踢伤"), ("jellyfish stings", "海蜇蜇伤"), ("a torn ear", "耳撕裂"), ("lead poisoning",
    "铅中毒"),
    ("a broken jaw", "下颌骨折"), ("frostbite", "冻伤"), ("a bee allergy", "蜂毒过敏"), ("a lost toe",
    "断趾"),
)
# fmt: on
GIVEN = _words(
    "Ada Ben Cora Dan Ella Finn Gina Hugo Ines Jon Kira Leo Mara Nils Olga Paul Rosa Sam Tess Umar "
    "Vera Walt Yara Zeno Alma Bram Cleo Dirk Edda Fred Gwen Hans Ilse Jana Karl Lena Max Nora Otto Pia"
)
# common in many countries, and so nobody's in particular
COMMON_GIVEN = _words(
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan "
    "Joseph Jessica Thomas Sarah Charles Karen Christopher Lisa Daniel Nancy Matthew Betty Anthony Sandra "
    "Mark Margaret Donald Ashley Steven Kimberly Andrew Emily Paul Donna Joshua Michelle Kenneth Carol "
    "Kevin Amanda Brian Melissa George Deborah Timothy Stephanie Ronald Rebecca Jason Sharon Edward Laura "
    "Jeffrey Cynthia Ryan Dorothy Jacob Amy Gary Kathleen Nicholas Angela Eric Shirley Jonathan Emma "
    "Stephen Brenda Larry Pamela Justin Nicole Scott Anna Brandon Samantha Benjamin Katherine Samuel "
    "Christine Gregory Debra"
)
COMMON_SURNAMES = _words(
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez "
    "Wilson Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark "
    "Ramirez Lewis Robinson Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green Adams "
    "Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz Parker "
    "Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook Rogers Gutierrez Ortiz Morgan Cooper "
    "Peterson Bailey Reed Kelly Howard Ramos Kim Cox Ward Richardson Watson Brooks Chavez Wood James "
    "Bennett Gray Mendoza"
)
GIVEN_ZH = _words("明 芳 伟 娜 静 强 磊 军 洋 勇 艳 杰 涛 超 霞 平 刚 玲 桂 辉")
SURNAMES_ZH = _words("王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙 胡 朱 高 林 何 郭 马 罗")
PHRASE_WORDS = _words(
    "amber birch cedar delta ember falcon garnet harbor indigo jasper kettle lantern "
    "marble nickel onyx pepper quartz raven saddle timber umber velvet walnut zephyr"
)
INVENTED_SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
_SYLLABLES = _words(
    "ba be bo da de do fa fe ga go ha ho ka ke la le lo ma mo na no pa pe ra ro sa so ta to va"
)


@dataclass(frozen=True)
class Condition:
    """One condition with its four facts. `house`: taught by the clinic's own records alone."""

    name: str
    name_zh: str
    drug: str
    dose: int
    time: tuple[str, str]
    warning: tuple[str, str]
    house: bool


@cache
def conditions() -> tuple[Condition, ...]:
    """All conditions; even places public, odd places house. The same in every world: seeds move patients, not
    facts.
    """
    rng = random.Random("formulary")
    drugs = [start + end for start in _DRUG_STARTS for end in _DRUG_ENDS]
    rng.shuffle(drugs)
    return tuple(
        Condition(
            name=f"{_STEMS[i]} {_ENDS[i % len(_ENDS)]}",
            name_zh=_STEMS_ZH[i] + _ENDS_ZH[i % len(_ENDS)],
            drug=drugs[i],
            dose=rng.choice(DOSES),
            time=rng.choice(TIMES),
            warning=rng.choice(WARNINGS),
            house=i % 2 == 1,
        )
        for i in range(CONDITIONS)
    )


def condition_in(text: str) -> Condition | None:
    """The condition that a text names in either language; of several the one with the longest name."""
    named = [(name, c) for c in conditions() for name in (c.name, c.name_zh) if name in text]
    return max(named, key=lambda found: len(found[0]))[1] if named else None


SURNAMES_MOST = 24_000  # of 27,000 that three syllables make


@cache
def surnames(count: int = 900) -> tuple[str, ...]:
    """Invented surnames, distinct, in a fixed order."""
    rng = random.Random("surnames")
    made: dict[str, None] = {}
    while len(made) < count:
        made["".join(rng.choice(_SYLLABLES) for _ in range(3)).capitalize()] = None
    return tuple(made)
