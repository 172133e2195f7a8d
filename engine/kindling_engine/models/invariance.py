"""Where the batch-invariant mode cannot keep its promise, it is refused by name."""

import torch

from kindling_engine.models.errors import ModelError

_REMEDY = "Start it without --batch-invariant."


def invariance_allow(architecture: str, device: torch.device, *, decoder: bool) -> None:
    """Raise ModelError unless ``architecture`` has a ``decoder`` of ours and the device is a CPU."""
    if device.type != "cpu":
        raise ModelError(
            "unsupported_mode", f"The batch-invariant mode runs on a CPU, not on {device.type}. {_REMEDY}"
        )
    if not decoder:
        raise ModelError(
            "unsupported_mode",
            f"{architecture} has no decoder here whose results can be kept from depending on the batch. {_REMEDY}",
        )
