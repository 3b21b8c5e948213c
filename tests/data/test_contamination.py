"""Benchmark items that stand in the training text are found; items that share words with it are not."""

from dpaudit.data.contamination import can_be_found, contaminated

ASKED = "A man of sixty has had a dry cough for three weeks and coughs blood at night. What comes first?"
ITEMS = {
    "copied": (ASKED, f"{ASKED} A scan of the chest"),
    "quoted": ("In whom does the sweating sickness of the fens begin before the tenth year of age and why?",),
    "free": ("A woman of forty has had a wet cough for two days. Which drug comes first at night, and why?",),
    "short": ("What comes first?",),
    "chinese": ("胸闷三周并夜间咳血的患者首先应该做什么检查",),
}


def test_copies_are_found_and_likeness_is_not() -> None:
    training = [
        f"Doctor: {ASKED.upper().replace('?', ' ...')} Patient: hm.",
        "the sweating sickness of the fens begins early",
        "请问：胸闷三周，并夜间咳血的患者，首先应该做什么检查？",
        "what comes first? what comes first?",
    ]
    assert contaminated(ITEMS, training) == ["copied", "chinese"]
    assert contaminated(ITEMS, []) == []


def test_most_of_an_item_is_enough_and_half_is_not() -> None:
    words = ITEMS["quoted"][0].split()
    assert contaminated(ITEMS, [" ".join(words[:16])]) == ["quoted"]  # 9 of 11 runs
    assert contaminated(ITEMS, [" ".join(words[:12])]) == []  # 5 of 11


def test_an_item_of_a_few_words_cannot_be_looked_for() -> None:
    assert [name for name, texts in ITEMS.items() if not can_be_found(texts)] == ["short"]
