"""Which files an adapter may consist of, and how large each may be."""

from pathlib import PurePosixPath

from kindling_engine.protocol.adapter_extras import CARD_NAME, TOKENIZER_NAME
from kindling_engine.protocol.vocabulary import MAX_TOKENIZER_BYTES
from kindling_platform.common.errors import KindlingError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
NEEDED = (CONFIG, WEIGHTS)
"""What is served. The card and the tokenizer are looked at by the checks, if they come along, and not kept."""
LIMITS_BYTES = {
    CONFIG: 1024 * 1024,
    WEIGHTS: 2 * 1024**3,
    CARD_NAME: 1024 * 1024,
    TOKENIZER_NAME: MAX_TOKENIZER_BYTES,
}
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
DROPPED = {"readme.md", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
           "added_tokens.json", "vocab.json", "merges.txt", ".gitattributes", "training_args.json"}  # fmt: skip


def file_accepted(name: str) -> bool:
    """Whether a file is taken in (True) or harmless and dropped (False).

    Raises:
        KindlingError: pickle_refused, file_not_expected.
    """
    if PurePosixPath(name).suffix.lower() in PICKLES:
        raise KindlingError(
            "pickle_refused",
            f"{name[:100]!r} is a pickle, which can run code when it is read; it is refused unopened. "
            "Save the adapter with safe_serialization=True.",
            param="files",
        )
    if name in LIMITS_BYTES:
        return True
    if name.lower() in DROPPED:
        return False
    raise KindlingError(
        "file_not_expected",
        f"{name[:100]!r} is not part of an adapter; upload {CONFIG} and {WEIGHTS}.",
        param="files",
    )


def size_checked(name: str, size_bytes: int) -> int:
    """A file's size, unchanged.

    Raises:
        KindlingError: empty_file, file_too_large.
    """
    if size_bytes <= 0:
        raise KindlingError("empty_file", f"{name} is empty.", param="files")
    if size_bytes > LIMITS_BYTES[name]:
        raise KindlingError(
            "file_too_large", f"{name} may have at most {LIMITS_BYTES[name]:,} bytes.", 413, param="files"
        )
    return size_bytes
