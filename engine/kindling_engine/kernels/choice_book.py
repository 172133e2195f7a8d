"""Choices of configurations in a file, so that only the first start on a device has to measure."""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from kindling_engine.kernels.tuning import Choice, Config, Key

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What choices are good for: a device by name, a Triton, and the kernels' source by its hash."""

    device: str
    triton: str
    source: str


def stamp_of(device: torch.device) -> Stamp:
    """Of this process. Raises ModuleNotFoundError without triton."""
    import triton

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return Stamp(name, triton.__version__, digest.hexdigest())


def folder_default() -> Path:
    """Where choices are kept when nobody says so: in the user's cache, beside code compiled for a CPU."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kindling" / "tuned"


class ChoiceBook:
    """The choices of one device in ``folder``; what was made with another Triton or other kernels does not count.

    Processes may share it: each keeps what the others have written, and of two that write at once one is heard.
    """

    def __init__(self, folder: Path, stamp: Stamp) -> None:
        name = re.sub(r"[^a-z0-9]+", "-", stamp.device.lower()).strip("-")
        self._path = folder / f"{name}.json"
        self._stamp = stamp
        self._choices = self._read()

    def find(self, key: Key, configs: Sequence[Config]) -> Config | None:
        """The choice kept for ``key``, if it is still one of ``configs``."""
        kept = self._choices.get(_text(key))
        if not isinstance(kept, dict):
            return None
        return next((config for config in configs if str(config) == kept.get("config")), None)

    def keep(self, key: Key, choice: Choice) -> None:
        """Write a choice down; where that cannot be done it is made anew at the next start."""
        self._choices = {
            **self._read(tells=False),
            **self._choices,
            _text(key): {"config": str(choice.config), "us": round(choice.us, 3)},
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps({**asdict(self._stamp), "choices": self._choices}, indent=1)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                file.write(text)
            Path(file.name).replace(self._path)
        except OSError as error:
            logger.info("choices of configurations are not kept: %s", error)

    def _read(self, *, tells: bool = True) -> dict[str, Any]:
        try:
            kept = json.loads(self._path.read_text())
            choices = kept.pop("choices")
            if not isinstance(choices, dict):
                raise TypeError("choices are no object")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            if tells:
                logger.warning("%s holds no choices that can be read, and is ignored: %s", self._path, error)
            return {}
        if kept != asdict(self._stamp):
            if tells:
                logger.info("%s was made for another Triton or other kernels, and is ignored", self._path)
            return {}
        return choices


def _text(key: Key) -> str:
    return " ".join(map(str, key))
