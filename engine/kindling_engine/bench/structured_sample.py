"""What the bench of constrained output works on: a sample of real schemas, and a vocabulary that writes them."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindling_engine.bench.structured_vocab import SPECIAL, vocabulary_make

SAMPLE = Path(__file__).resolve().parents[3] / "tests" / "data" / "jsonschema-bench-sample.jsonl.gz"
END = 1
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class SampleSchema:
    """A schema as text, and its instances as texts, each with whether it matches."""

    name: str
    text: str
    instances: tuple[tuple[str, bool], ...]


def sample_load() -> list[SampleSchema]:
    """All schemas. Raises RuntimeError where the sample is not at hand: it comes with the sources alone."""
    try:
        with gzip.open(SAMPLE, "rt", encoding="utf-8") as lines:
            return [_schema(json.loads(line)) for line in lines]
    except OSError as error:
        raise RuntimeError(f"the sample of schemas is missing: {SAMPLE}") from error


class BenchVocabulary:
    """The made-up vocabulary as a tokenizer that takes the longest token each time."""

    def __init__(self) -> None:
        # Names and meaning are those that the grammar library asks for.
        self.tokens = vocabulary_make()
        self.special_token_ids = list(range(len(SPECIAL)))
        self.bos_token_id = 0
        self.eos_token_id = END
        self._ids = {token: index for index, token in enumerate(self.tokens) if index >= len(SPECIAL)}

    def __len__(self) -> int:
        return len(self.tokens)

    def __call__(self, text: str | bytes) -> list[int]:
        data = text if isinstance(text, bytes) else text.encode()
        return list(self._longest(data))

    def library_tokenizer(self) -> Any:
        """The same for the grammar library."""
        from llguidance import LLTokenizer, TokenizerWrapper

        return LLTokenizer(TokenizerWrapper(self), eos_token=[END])

    def _longest(self, data: bytes) -> Iterator[int]:
        position = 0
        while position < len(data):
            for length in range(min(_LONGEST, len(data) - position), 0, -1):
                found = self._ids.get(data[position : position + length])
                if found is not None:
                    yield found
                    position += length
                    break


def _schema(raw: dict[str, Any]) -> SampleSchema:
    instances = []
    for test in raw["tests"]:
        text = json.dumps(test["data"], ensure_ascii=False)
        if text.isprintable() and _is_utf8(text):
            instances.append((text, bool(test["valid"])))
    return SampleSchema(raw["name"], json.dumps(raw["schema"], ensure_ascii=False), tuple(instances))


def _is_utf8(text: str) -> bool:
    """Half a surrogate pair, which JSON can spell, cannot be written."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
