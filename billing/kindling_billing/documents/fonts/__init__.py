"""The fonts of documents, and which characters they can set: Latin, Greek and Cyrillic letters among them.

Scripts that are written from right to left have glyphs here, too, but nothing would join or turn them.
"""

from functools import cache
from pathlib import Path
from unicodedata import bidirectional, category, normalize

FONT, BOLD = "DejaVuSans", "VeraBd"
FILES = {FONT: str(Path(__file__).with_name("DejaVuSans.ttf")), BOLD: "VeraBd.ttf"}
FROM_THE_RIGHT = {"R", "AL", "AN"}
BREAKS = "\r\n"
# Marks without a shape of their own: the font has glyphs for some, and some turn the letters around them.
UNSEEN = {"Cf", "Zl", "Zp"}


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
    """A text with question marks for what cannot be printed, less what is not seen: it may be older than this font."""
    seen = (char for char in normalize("NFC", text) if category(char) not in UNSEEN)
    return "".join(char if _is_drawable(char) else "?" for char in seen)


def _is_drawable(char: str) -> bool:
    if char in BREAKS:
        return True
    if category(char) in UNSEEN or bidirectional(char) in FROM_THE_RIGHT:
        return False
    return ord(char) in _glyphs()


@cache
def _glyphs() -> frozenset[int]:
    from reportlab.pdfbase.ttfonts import TTFont

    return frozenset(TTFont(FONT, FILES[FONT]).face.charToGlyph)
