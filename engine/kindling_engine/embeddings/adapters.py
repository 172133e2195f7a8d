"""Adapters and embedding models do not go together yet."""

from pathlib import Path

from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import LoadedAdapter


def adapter_refuse(folder: Path) -> LoadedAdapter:
    """Raises AdapterError: an adapter is checked by generating with it, which an embedding model cannot."""
    raise AdapterError(
        "base_model",
        "The base makes embeddings; adapters are served on models that generate.",
        "Choose a base model that generates text.",
    )
