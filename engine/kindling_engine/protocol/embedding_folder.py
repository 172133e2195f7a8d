"""What a model folder says about embedding: sentence-transformers' modules.json and the files it names.

Free of torch, so that a catalog reads a folder as the engine does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENCODERS = frozenset(
    {
        *("BertModel", "BertForMaskedLM"),
        *("RobertaModel", "RobertaForMaskedLM", "XLMRobertaModel", "XLMRobertaForMaskedLM"),
    }
)
"""Architectures that read a text in both directions and can only embed."""

MODULES_FILE = "modules.json"
_POOLINGS = {
    "cls_token": "cls",
    "mean_tokens": "mean",
    "lasttoken": "lasttoken",
}
_MAX_JSON_BYTES = 1 << 20


class EmbeddingFolderError(ValueError):
    """The folder asks for a way of embedding that is not served; the text names it."""


@dataclass(frozen=True, slots=True)
class EmbeddingFolder:
    """How texts become vectors.

    pooling: cls | mean | lasttoken; `max_tokens` None leaves the limit to config.json; `prompt` goes before
    every text; `lower_case` asks for lower-cased text.
    """

    pooling: str
    normalize: bool
    max_tokens: int | None = None
    prompt: str = ""
    lower_case: bool = False


def embedding_folder_read(folder: Path, architecture: str) -> EmbeddingFolder | None:
    """How a folder embeds; None when it holds a generation model.

    An encoder without modules.json is pooled by the mean, as sentence-transformers does.
    Raises EmbeddingFolderError.
    """
    modules = _modules(folder)
    if modules is None:
        return EmbeddingFolder("mean", normalize=False) if architecture in ENCODERS else None
    pooling, normalize = "", False
    for kind, path in modules:
        if kind == "Transformer":
            if path:
                raise EmbeddingFolderError(
                    f"{MODULES_FILE} keeps the model in {path!r}; only a model in the folder itself is served."
                )
        elif kind == "Pooling" and not pooling:
            pooling = _pooling(folder / path / "config.json")
        elif kind == "Normalize":
            normalize = True
        else:
            raise EmbeddingFolderError(
                f"{MODULES_FILE} asks for a module {kind!r}; Transformer, Pooling and Normalize are served."
            )
    if not pooling:
        raise EmbeddingFolderError(f"{MODULES_FILE} names no pooling.")
    settings = _object(folder / "sentence_bert_config.json")
    max_tokens = settings.get("max_seq_length")
    return EmbeddingFolder(
        pooling,
        normalize,
        max_tokens=max_tokens if type(max_tokens) is int and max_tokens > 0 else None,
        prompt=_prompt(folder),
        lower_case=settings.get("do_lower_case") is True,
    )


def context_limit(
    positions: int, config: Mapping[str, Any], architecture: str, embedding: EmbeddingFolder | None
) -> int:
    """Tokens that a text may have, of a table of ``positions`` in an encoder; a decoder's are all its own."""
    if architecture not in ENCODERS:
        return positions
    longest = positions - position_offset(config, architecture)
    limit = embedding.max_tokens if embedding is not None else None
    return min(longest, limit or longest)


def position_offset(config: Mapping[str, Any], architecture: str) -> int:
    """The number of an encoder's first position: RoBERTa counts from behind its padding token's id."""
    padding = config.get("pad_token_id", 1)
    return int(padding or 0) + 1 if architecture.startswith(("Roberta", "XLMRoberta")) else 0


def _modules(folder: Path) -> list[tuple[str, str]] | None:
    """Class name and path of each module, in order; None when the folder lists none."""
    path = folder / MODULES_FILE
    if not path.is_file():
        return None
    listed = _json(path)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise EmbeddingFolderError(f"{MODULES_FILE} is not a list of modules.")
    modules = [(str(one.get("type", "")).rpartition(".")[2], str(one.get("path", ""))) for one in listed]
    for _, place in modules:
        if place and (Path(place).name != place or place.startswith(".")):
            raise EmbeddingFolderError(f"{MODULES_FILE} names the path {place[:80]!r} outside the folder.")
    return modules


def _pooling(path: Path) -> str:
    config = _object(path)
    named = config.get("pooling_mode")
    if isinstance(named, str):
        modes = [named]
    else:
        modes = [name.removeprefix("pooling_mode_") for name, on in config.items()
                 if name.startswith("pooling_mode_") and on is True]  # fmt: skip
    place = f"{path.parent.name}/{path.name}"
    if len(modes) != 1:
        raise EmbeddingFolderError(f"{place} must choose exactly one pooling; it chooses {modes}.")
    pooling = _POOLINGS.get(modes[0], modes[0])
    if pooling not in _POOLINGS.values():
        raise EmbeddingFolderError(
            f"{place} asks for pooling {pooling!r}; {', '.join(_POOLINGS.values())} are served."
        )
    if config.get("include_prompt") is False:
        raise EmbeddingFolderError(f"{place} leaves prompts out of the pooling, which is not served.")
    return pooling


def _prompt(folder: Path) -> str:
    config = _object(folder / "config_sentence_transformers.json")
    name, prompts = config.get("default_prompt_name"), config.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else ""
    return prompt if isinstance(prompt, str) else ""


def _object(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty when there is no file."""
    if not path.is_file():
        return {}
    value = _json(path)
    if not isinstance(value, dict):
        raise EmbeddingFolderError(f"{path.name} is not a JSON object.")
    return value


def _json(path: Path) -> Any:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise EmbeddingFolderError(f"{path.name} is longer than {_MAX_JSON_BYTES} bytes.")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EmbeddingFolderError(f"{path.name} is not valid JSON.") from error
