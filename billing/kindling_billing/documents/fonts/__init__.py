"""The fonts of documents, and which characters they can set: Latin, Greek and Cyrillic letters among them.

Scripts that are written from right to left have glyphs here, too, but nothing would join or turn them.
"""

from functools import cache
from pathlib import Path
from unicodedata import bidirectional, normalize

FONT, BOLD = "DejaVuSans", "VeraBd"
FILES = {FONT: str(Path(__file__).with_name("DejaVuSans.ttf")), BOLD: "VeraBd.ttf"}
FROM_THE_RIGHT = {"R", "AL", "AN"}
BREAKS = "\r\n"


@cache
def fonts_register() -> None:
    """Make the fonts known to reportlab, once in a process; no start waits for it."""
    from reportlab.pdfbase.pdfmetrics import registerFont
    from reportlab.pdfbase.ttfonts import TTFont

    for name, file in FILES.items():
        registerFont(TTFont(name, file))


def missing_characters(text: str) -> str:
    """The characters of a text that no document can print, each once."""
    return "".join(dict.fromkeys(char for char in normalize("NFC", text) if not _is_drawable(char)))


def drawable(text: str) -> str:
    """A text with question marks for what cannot be printed: it may be older than this font."""
    return "".join(char if _is_drawable(char) else "?" for char in normalize("NFC", text))


def _is_drawable(char: str) -> bool:
    return char in BREAKS or (ord(char) in _glyphs() and bidirectional(char) not in FROM_THE_RIGHT)


@cache
def _glyphs() -> frozenset[int]:
    from reportlab.pdfbase.ttfonts import TTFont

    return frozenset(TTFont(FONT, FILES[FONT]).face.charToGlyph)
