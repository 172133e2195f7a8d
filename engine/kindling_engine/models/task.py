"""Whether a causal model's folder wants it to generate or to embed."""

from pathlib import Path

from kindling_engine.models.base import Task
from kindling_engine.models.errors import ModelError
from kindling_engine.protocol.embedding_folder import EmbeddingFolderError, embedding_folder_read


def task_read(folder: Path, architecture: str) -> Task:
    """The task of a causal model. Raises ModelError for a way of embedding that cannot be kept."""
    try:
        embedding = embedding_folder_read(folder, architecture)
    except EmbeddingFolderError as error:
        raise ModelError("unsupported_model", str(error)) from error
    if embedding is None:
        return "generate"
    if embedding.pooling != "lasttoken":
        # Earlier tokens may be in the prefix cache, where only their keys and values are.
        raise ModelError(
            "unsupported_model",
            f"The folder asks for {embedding.pooling} pooling of {architecture}; causal models are pooled by "
            "their last token.",
        )
    return "embed"
