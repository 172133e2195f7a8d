"""The grammar library's view of a model's vocabulary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kindling_engine.constraints.base import ConstraintError

UNAVAILABLE = "constraint_unavailable"


def grammar_tokenizer_load(folder: Path, *, vocab_size: int, eos_ids: Sequence[int]) -> Any:
    """The library's tokenizer for a model's ``tokenizer.json``; takes up to a second for a large vocabulary.

    Ids between the tokenizer's size and ``vocab_size`` pad the model's matrix; no grammar ever allows them.
    Raises ConstraintError ``constraint_unavailable`` when the file is missing or of a kind that is not known.
    """
    from llguidance import LLTokenizer

    try:
        text = _text_without_padding(folder / "tokenizer.json")
    except (OSError, ValueError):
        raise ConstraintError(
            UNAVAILABLE, "This model has no tokenizer.json that can be read, which constrained output needs."
        ) from None
    ends = [token for token in eos_ids if 0 <= token < vocab_size] or None
    try:
        # A tokenizer may know more tokens than the model has rows.
        known = LLTokenizer(text, eos_token=ends).vocab_size
        return LLTokenizer(text, n_vocab=max(known, vocab_size), eos_token=ends)
    except ValueError as error:
        raise ConstraintError(
            UNAVAILABLE, f"Constrained output does not know this model's kind of tokenizer: {error}"
        ) from None


def _text_without_padding(path: Path) -> str:
    """The file's text, its padding and truncation switched off.

    Some were saved with them, as they were trained: each text of a grammar would be filled up, or cut.
    """
    import msgspec

    fields = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    fields["padding"] = fields["truncation"] = msgspec.Raw(b"null")
    return msgspec.json.encode(fields).decode()
