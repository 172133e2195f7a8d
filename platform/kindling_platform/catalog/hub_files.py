"""Which files of a repository are needed, and the note of where they came from."""

import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from kindling_platform.common.errors import KindlingError

SOURCE_NAME = ".kindling-source.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Everything but weights. No code, no pickles, no second copies of the weights in other formats.
SMALL = (
    *("config.json", "generation_config.json", INDEX, "README.md", "LICENSE*"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.json", "*.jinja"),
    *(
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "*_Pooling/config.json",
    ),
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a folder came from: the id, the commit, and the size in bytes of each file."""

    repo_id: str
    revision: str
    files: dict[str, int]

    def is_whole(self, folder: Path) -> bool:
        """Whether every file is there in its full size."""
        return bool(self.files) and all(
            (folder / name).is_file() and (folder / name).stat().st_size == size
            for name, size in self.files.items()
        )

    def save(self, folder: Path) -> None:
        half = folder / f"{SOURCE_NAME}.part"
        half.write_text(json.dumps(asdict(self), indent=1) + "\n")
        half.replace(folder / SOURCE_NAME)


def source_read(folder: Path) -> Source | None:
    """The note in a folder, None when there is none that can be used."""
    try:
        found: Any = json.loads((folder / SOURCE_NAME).read_bytes())
        files = {str(name): int(size) for name, size in found["files"].items()}
        return Source(str(found["repo_id"]), str(found["revision"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def small_files(names: list[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in SMALL) and _is_near(name)]


def weight_files(repo_id: str, names: list[str], index: bytes | None) -> list[str]:
    """The safetensors to fetch: those that the index names, or the single one.

    Raises:
        KindlingError: `model_folder_invalid`, with the format that is there instead.
    """
    if index is not None:
        try:
            wanted = sorted({str(name) for name in json.loads(index)["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _invalid(f"{INDEX} of {repo_id} is malformed.") from error
        # Beside the index and nowhere else, which also keeps a path from leading out of the folder.
        absent = [
            name for name in wanted if name not in names or "/" in name or not name.endswith(".safetensors")
        ]
        if absent or not wanted:
            raise _invalid(
                f"{INDEX} of {repo_id} names {absent[0][:100] if absent else 'no files'}; it has none."
            )
        return wanted
    if WEIGHTS in names:
        return [WEIGHTS]
    pickle = next((name for name in names if name.endswith(_PICKLES)), None)
    gguf = next((name for name in names if name.endswith(".gguf")), None)
    if pickle or gguf:
        kind = "GGUF, which is not served" if gguf else "a pickle, which can run any code"
        raise _invalid(
            f"{repo_id} has no {WEIGHTS}; {gguf or pickle} is {kind}. Choose a version in safetensors."
        )
    raise _invalid(f"{repo_id} has no {WEIGHTS}.")


def _is_near(name: str) -> bool:
    """At most one folder deep, and not in one that holds another format's copy."""
    parts = PurePosixPath(name).parts
    return len(parts) == 1 or parts[0] == "additional_chat_templates" or parts[0].endswith("_Pooling")


def _invalid(message: str) -> KindlingError:
    return KindlingError("model_folder_invalid", message)
