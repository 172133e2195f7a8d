"""Reads a Hugging Face model folder without torch: its config, its sizes, and a hash of its files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindling_engine.protocol.adapter_base import DECODERS
from kindling_engine.protocol.chat_templates import chat_template_sources
from kindling_engine.protocol.context_lengths import UNBOUNDED_TOKENS
from kindling_engine.protocol.embedding_folder import (
    EmbeddingFolder,
    EmbeddingFolderError,
    context_limit,
    embedding_folder_read,
)
from kindling_engine.protocol.vocabulary import VocabularyUnknown, vocabulary_hash
from kindling_platform.catalog.folder_files import (
    config_read,
    invalid,
    licence_read,
    parameters_count,
    revision_read,
    tokenizer_check,
    weights_find,
)

MAX_SIZE = 2**31 - 1
# Older families use other names for the same sizes.
OTHER_NAMES = {
    "hidden_size": ("n_embd", "d_model", "n_embed", "emb_dim", "embedding_dim"),
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers", "num_blocks"),
    "num_attention_heads": ("n_head", "num_heads", "n_heads"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"),
    "max_position_embeddings": ("n_positions", "max_seq_len", "n_ctx", "context_length"),
}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder says of its model; `task` is generate or embed, `revision` a sha256 over its files.

    `chat_ready`: it generates, and has a chat template.
    """

    architecture: str
    task: str
    chat_ready: bool
    context_length: int
    vocab_size: int
    vocabulary_hash: str
    parameters: int
    shapes: dict[str, int]
    licence: str
    revision: str


def model_folder_read(path: Path) -> ModelFolder:
    """Read a folder.

    Raises:
        KindlingError: model_folder_invalid, with what is missing.
    """
    config = config_read(path)
    weights = weights_find(path)
    tokenizer_check(path)
    architecture = _architecture(config)
    embedding = _embedding(path, architecture)
    # Models that keep a state may have neither heads nor a last position.
    heads = _size(config, "num_attention_heads", None if architecture in DECODERS else 1)
    hidden = _size(config, "hidden_size")
    return ModelFolder(
        architecture=architecture,
        task="generate" if embedding is None else "embed",
        chat_ready=embedding is None and _has_chat_template(path),
        context_length=_context_length(config, architecture, embedding),
        vocab_size=_size(config, "vocab_size"),
        vocabulary_hash=_vocabulary_hash(path),
        parameters=sum(map(parameters_count, weights)),
        shapes={
            **_experts(config),
            "hidden_size": hidden,
            "intermediate_size": _size(config, "intermediate_size", 4 * hidden),
            "num_layers": _size(config, "num_hidden_layers", _listed_layers(config)),
            "heads": heads,
            "kv_heads": _size(config, "num_key_value_heads", heads),
            "head_dim": _size(config, "head_dim", hidden // heads),
        },
        licence=licence_read(path),
        revision=revision_read(path),
    )


def _size(config: dict[str, Any], name: str, default: int | None = None) -> int:
    text = config.get("text_config")
    places = [config, text] if isinstance(text, dict) else [config]
    found = (place.get(known) for place in places for known in (name, *OTHER_NAMES.get(name, ())))
    value = next((one for one in found if one is not None), None)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIZE:
        raise invalid(f"config.json lacks a usable {name}.")
    return value


def _experts(config: dict[str, Any]) -> dict[str, int]:
    """How many experts a mixture has, and how wide each is; nothing for other models."""
    # Configs of other models hold zeros and nulls there.
    names = ("num_experts", "num_local_experts", "moe_intermediate_size", "intermediate_size")
    experts, more, size, only_size = (
        count if isinstance(count, int) and 0 < count <= MAX_SIZE else 0 for count in map(config.get, names)
    )
    size = size or only_size  # of a model whose MLPs are all experts
    return {"experts": more or experts, "expert_size": size} if (more or experts) and size else {}


def _architecture(config: dict[str, Any]) -> str:
    named = config.get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise invalid("config.json does not say which architecture it is for.")
    return named[0][:80]


def _embedding(path: Path, architecture: str) -> EmbeddingFolder | None:
    try:
        return embedding_folder_read(path, architecture)
    except EmbeddingFolderError as error:
        raise invalid(str(error)) from error


def _has_chat_template(path: Path) -> bool:
    try:
        return "default" in chat_template_sources(path)
    except (OSError, ValueError, RecursionError) as error:
        raise invalid(f"The chat template or tokenizer_config.json of {path} cannot be read.") from error


def _listed_layers(config: dict[str, Any]) -> int | None:
    """As many as a list of their kinds has, which some configs have instead of a number."""
    kinds = config.get("layers_block_type") or config.get("layer_types")
    return len(kinds) if isinstance(kinds, list) and kinds else None


def _context_length(config: dict[str, Any], architecture: str, embedding: EmbeddingFolder | None) -> int:
    known = architecture in DECODERS or embedding is not None
    positions = _size(config, "max_position_embeddings", None if known else UNBOUNDED_TOKENS)
    if not known:
        # Attention in chunks is served for the length of one.
        positions = min(positions, _size(config, "attention_chunk_size", positions))
    length = context_limit(positions, config, architecture, embedding)
    if length < 1:
        raise invalid("config.json leaves no position for a text.")
    return length


def _vocabulary_hash(path: Path) -> str:
    """Nothing for a tokenizer in another format: adapters are not compared with it then."""
    try:
        return vocabulary_hash(path / "tokenizer.json")
    except VocabularyUnknown:
        return ""
