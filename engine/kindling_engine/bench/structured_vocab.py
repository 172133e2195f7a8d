"""A vocabulary of 128k tokens made up for benches: the shape of a real one, without a download.

Every byte; numbers up to 999; runs of white space and of punctuation as JSON and code have them; words built of
syllables in the four ways in which vocabularies hold words; and characters of scripts that take three bytes.
"""

import random
from collections.abc import Iterator
from itertools import product

SIZE = 128_256
SPECIAL = ("<|begin|>", "<|end|>")

_ONSETS = ["", *"bcdfghjklmnprstvwyz", "bl", "br", "ch", "cl", "cr", "dr", "fl", "fr", "gr", "pl", "pr", "qu"]
_ONSETS += ["sc", "sh", "sl", "sp", "st", "str", "th", "tr", "tw", "wh"]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ee", "ie", "io", "oo", "ou"]
_CODAS = [
    "",
    *"bcdgklmnprstxy",
    "ck",
    "ct",
    "ent",
    "er",
    "ing",
    "ion",
    "ld",
    "ll",
    "ment",
    "nd",
    "ng",
    "ns",
    "nt",
]
_CODAS += ["rd", "rs", "ss", "st", "sts", "th", "ty"]
_MARKS = [
    '"',
    '":',
    '": "',
    '":"',
    '",',
    '", "',
    '","',
    '"}',
    '"},',
    "{",
    '{"',
    "}",
    "},",
    "}}",
    "[",
    "[]",
    '["',
    "]",
]
_MARKS += [
    "],",
    '"]',
    ": ",
    ", ",
    "();",
    "()",
    "//",
    "/*",
    "==",
    "!=",
    "->",
    "=>",
    "&&",
    "||",
    "...",
    "--",
    "::",
]


def vocabulary_make(size: int = SIZE) -> list[bytes]:
    """Tokens by id: the special ones first, then distinct byte strings; the same for every run."""
    tokens = dict.fromkeys(name.encode() for name in SPECIAL)
    for token in _candidates():
        tokens.setdefault(token, None)
        if len(tokens) == size:
            return list(tokens)
    raise ValueError(f"there are not {size} tokens to be had")


def _candidates() -> Iterator[bytes]:
    yield from (bytes([value]) for value in range(256))
    for digits in (2, 3):
        yield from (f"{value:0{digits}d}".encode() for value in range(10**digits))
    for char, longest in ((" ", 64), ("\n", 8), ("\t", 16)):
        yield from ((char * length).encode() for length in range(2, longest + 1))
    yield from (f"\n{' ' * indent}".encode() for indent in range(1, 41))
    for mark in _MARKS:
        yield from (mark.encode(), f" {mark}".encode(), f"{mark}\n".encode())
    yield from (chr(point).encode() for point in range(0x4E00, 0x4E00 + 12_000))
    yield from (chr(point).encode() for point in range(0x0400, 0x0500))
    for word in _words():
        yield from (
            f" {word}".encode(),
            word.encode(),
            f" {word.capitalize()}".encode(),
            word.upper().encode(),
        )


def _words() -> Iterator[str]:
    """Words of one syllable first, then of two and three, in an order that is random and always the same."""
    one = ["".join(parts) for parts in product(_ONSETS, _VOWELS, _CODAS)]
    yield from (word for word in one if len(word) <= 4)
    chance = random.Random(128)  # noqa: S311
    while True:
        yield "".join(chance.choice(one) for _ in range(chance.choice((1, 2, 2, 2, 3))))[:14]
