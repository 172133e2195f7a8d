"""The starter model: a tiny chat model and two LoRA adapters, trained on text generated here.

Importing this module reads nothing and loads no torch; it only says where the files are.
"""

from pathlib import Path

_WEIGHTS = Path(__file__).resolve().parent / "weights"

SPARK_NAME = "kindling/spark"
SPARK_PATH: Path = _WEIGHTS / "spark"
ADAPTER_PATHS: dict[str, Path] = {
    "intent": _WEIGHTS / "adapters" / "intent",
    "voice": _WEIGHTS / "adapters" / "voice",
}

__all__ = ["ADAPTER_PATHS", "SPARK_NAME", "SPARK_PATH"]
