"""A fingerprint of the tokens that a tokenizer.json knows, to tell whether two of them give tokens the same numbers."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

MAX_TOKENIZER_BYTES = 40 * 1024 * 1024
"""The largest one of a known model has 33 MB (Gemma 3's)."""


class VocabularyUnknown(ValueError):
    """The file cannot be read as a tokenizer.json; says why."""


class _Added(msgspec.Struct):
    id: int
    content: str


class _Tokens(msgspec.Struct):
    vocab: dict[str, int] | list[tuple[Any, ...]] = {}


class _Tokenizer(msgspec.Struct):
    """The fields that give tokens numbers; all others are passed over unread."""

    model: _Tokens
    added_tokens: list[_Added] | None = None


def vocabulary_hash(path: Path) -> str:
    """Sha256 over the tokens of a tokenizer.json in the order of their numbers.

    Raises:
        VocabularyUnknown: It is missing, larger than MAX_TOKENIZER_BYTES, or not in this format.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TOKENIZER_BYTES + 1)
    except OSError as error:
        raise VocabularyUnknown(f"it cannot be read ({error.strerror})") from error
    if len(content) > MAX_TOKENIZER_BYTES:
        raise VocabularyUnknown(f"it is larger than {MAX_TOKENIZER_BYTES >> 20} MiB")
    try:
        tokenizer = msgspec.json.decode(content, type=_Tokenizer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise VocabularyUnknown("it is no tokenizer.json") from error
    vocab = tokenizer.model.vocab
    # Unigram models number their pieces by place.
    tokens = (
        dict(vocab)
        if isinstance(vocab, dict)
        else {str(piece[0]): at for at, piece in enumerate(vocab) if piece}
    )
    tokens |= {added.content: added.id for added in tokenizer.added_tokens or ()}
    whole = hashlib.sha256()
    for token, number in sorted(tokens.items(), key=lambda item: (item[1], item[0])):
        whole.update(f"{number}\0{token}\n".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()
