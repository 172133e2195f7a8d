"""What may come along with an adapter: a card that names its licence, and the tokenizer that it was trained with."""

import re
from pathlib import Path

from kindling_engine.protocol.adapter_base import BaseShape
from kindling_engine.protocol.adapter_report import AdapterReport
from kindling_engine.protocol.vocabulary import VocabularyUnknown, vocabulary_hash

CARD_NAME = "README.md"
TOKENIZER_NAME = "tokenizer.json"
_CARD_CHARS = 20_000
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.\-+ ]{1,80}?)[\"']?\s*$", re.MULTILINE)
_NO_MONEY = re.compile(r"(?:^|-)(?:nc|noncommercial|non-commercial|research)(?:-|$)")


def check_extras(report: AdapterReport, path: Path, base: BaseShape) -> None:
    """Note the licence and compare the vocabulary; neither ever fails an adapter."""
    _note_licence(report, path / CARD_NAME)
    _compare_vocabulary(report, path / TOKENIZER_NAME, base)


def card_licence(text: str) -> str:
    """What the front matter of a model card names as its licence, or nothing."""
    found = _LICENCE.search(text[:_CARD_CHARS]) if text.startswith("---") else None
    return found[1] if found else ""


def _note_licence(report: AdapterReport, card: Path) -> None:
    if not card.is_file():
        report.add("licence", "pass", f"No {CARD_NAME} came along, so no licence is noted.")
        return
    with card.open("rb") as file:
        licence = card_licence(file.read(4 * _CARD_CHARS).decode("utf-8", "replace"))
    if not licence:
        report.add("licence", "pass", f"{CARD_NAME} names no licence.")
    elif _NO_MONEY.search(licence.lower()):
        report.add(
            "licence",
            "warn",
            f"{CARD_NAME} names the licence {licence}, which forbids commercial use.",
            "Serve it for money only if its author lets you.",
        )
    else:
        report.add("licence", "pass", f"{CARD_NAME} names the licence {licence}.")


def _compare_vocabulary(report: AdapterReport, tokenizer: Path, base: BaseShape) -> None:
    if not tokenizer.is_file() or not base.vocabulary_hash:
        return
    try:
        same = vocabulary_hash(tokenizer) == base.vocabulary_hash
    except VocabularyUnknown as error:
        report.add("vocabulary", "warn", f"{TOKENIZER_NAME} is passed over: {error}.")
        return
    if same:
        report.add("vocabulary", "pass", "Trained with the tokens of this base.")
    else:
        report.add(
            "vocabulary",
            "warn",
            f"{TOKENIZER_NAME} has other tokens than {base.ref!r}, whose own are used here.",
            "Train without added tokens, or choose the base that it was trained on.",
        )
