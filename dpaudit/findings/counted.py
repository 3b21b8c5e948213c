"""Counts with their nouns, as English has them."""


def many(count: int, noun: str) -> str:
    """`1 prompt`, `0 prompts`, `2,000 prompts`."""
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"
