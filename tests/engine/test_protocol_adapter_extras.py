"""What comes along with an adapter is noted and compared, and never fails it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kindling_adapter_headers import BASE
from kindling_engine.protocol import vocabulary
from kindling_engine.protocol.adapter_extras import check_extras
from kindling_engine.protocol.adapter_report import AdapterReport
from kindling_engine.protocol.findings import Finding
from kindling_engine.protocol.vocabulary import VocabularyUnknown, vocabulary_hash
from kindling_engine.starter import ADAPTER_PATHS, SPARK_PATH

WORDS = {"a": 0, "b": 1, "ab": 2}


def tokenizer(folder: Path, vocab: Any, *added: tuple[str, int]) -> Path:
    path = folder / "tokenizer.json"
    tokens = [{"id": number, "content": text, "special": True} for text, number in added]
    content = {
        "version": "1.0",
        "added_tokens": tokens,
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]]},
    }
    path.write_text(json.dumps(content))
    return path


def extras(folder: Path, base_hash: str = "") -> dict[str, Finding]:
    report = AdapterReport()
    check_extras(report, folder, replace(BASE, vocabulary_hash=base_hash))
    assert report.ok
    return {finding.check: finding for finding in report.findings}


def test_a_vocabulary_is_known_by_its_tokens_and_their_numbers(tmp_path: Path):
    first = vocabulary_hash(tokenizer(tmp_path, WORDS, ("<s>", 3)))
    assert vocabulary_hash(tokenizer(tmp_path, dict(reversed(WORDS.items())), ("<s>", 3))) == first
    assert vocabulary_hash(tokenizer(tmp_path, WORDS, ("<t>", 3))) != first
    assert vocabulary_hash(tokenizer(tmp_path, WORDS | {"a": 1, "b": 0}, ("<s>", 3))) != first
    assert vocabulary_hash(tokenizer(tmp_path, WORDS | {"<s>": 3})) == first


def test_pieces_with_scores_are_numbered_by_their_place(tmp_path: Path):
    pieces = [["a", -1.5], ["b", 0], ["ab", -3]]
    assert vocabulary_hash(tokenizer(tmp_path, pieces)) == vocabulary_hash(tokenizer(tmp_path, WORDS))
    assert vocabulary_hash(tokenizer(tmp_path, pieces[::-1])) != vocabulary_hash(tokenizer(tmp_path, WORDS))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"model": {"vocab": {"a": "b"}}}',
        b'{"model":' * 20_000,
        b'{"model": {"vocab": [[]]}, "added_tokens": 3}',
    ],
)
def test_what_is_no_tokenizer_is_passed_over_with_a_warning(tmp_path: Path, content: bytes):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(VocabularyUnknown):
        vocabulary_hash(tmp_path / "tokenizer.json")
    assert extras(tmp_path, "0" * 64)["vocabulary"].level == "warn"


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vocabulary, "MAX_TOKENIZER_BYTES", 64)
    with pytest.raises(VocabularyUnknown, match="larger than"):
        vocabulary_hash(tokenizer(tmp_path, WORDS))


def test_a_tokenizer_is_compared_with_that_of_the_base(tmp_path: Path):
    own = vocabulary_hash(tokenizer(tmp_path, WORDS))
    assert extras(tmp_path, own)["vocabulary"].level == "pass"
    other = extras(tmp_path, vocabulary_hash(SPARK_PATH / "tokenizer.json"))["vocabulary"]
    assert other.level == "warn"
    assert other.fix
    assert "vocabulary" not in extras(tmp_path)  # nothing is known of the base


@pytest.mark.parametrize(
    ("card", "level", "says"),
    [
        ("---\nlicense: apache-2.0\n---\n# x", "pass", "apache-2.0"),
        ('---\nlibrary_name: peft\nlicense: "mit"\n---\n', "pass", "licence mit"),
        ("---\nlicense: cc-by-nc-4.0\n---\n", "warn", "forbids commercial use"),
        ("# license: mit", "pass", "names no licence"),
        ("---\nlicense: [a, b]\n---\n", "pass", "names no licence"),
    ],
)
def test_the_licence_of_a_card_is_noted(tmp_path: Path, card: str, level: str, says: str):
    (tmp_path / "README.md").write_text(card)
    found = extras(tmp_path)["licence"]
    assert found.level == level
    assert says in found.message


def test_the_starter_adapters_say_their_licence():
    assert "apache-2.0" in extras(ADAPTER_PATHS["intent"])["licence"].message


def test_without_a_card_that_is_said(tmp_path: Path):
    assert extras(tmp_path)["licence"].level == "pass"
