"""Adapters on a hub of this machine, and one that somebody wants from there."""

import json

import numpy as np
from safetensors.numpy import load, save

from kindling_engine.starter import ADAPTER_PATHS
from kindling_hub import Hub, Repository, commit_name
from kindling_people import Customer, make_model
from kindling_platform.adapters.hub_source import HubSource
from kindling_platform.adapters.models import Adapter, HubFetch
from kindling_platform.adapters.services import adapter_create
from kindling_platform.catalog.models import Model

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
COMMIT = commit_name("an adapter")
REPOSITORY = "acme/support-lora"


def large_adapter(rank: int = 64) -> dict[str, bytes]:
    """The starter's adapter with its rank made so large that its weights are more than one first look reads."""
    folder = ADAPTER_PATHS["intent"]
    config = json.loads((folder / CONFIG).read_bytes())
    times = rank // config["r"]
    tensors = load((folder / WEIGHTS).read_bytes())
    grown = {
        name: np.tile(tensor, (times, 1) if "lora_A" in name else (1, times)) / times
        for name, tensor in tensors.items()
    }
    card = b"---\nlicense: mit\n---\nFor support.\n"
    return {CONFIG: json.dumps(config | {"r": rank}).encode(), WEIGHTS: save(grown), CARD: card}


def hub_with(hub: Hub, files: dict[str, bytes], **how: object) -> Repository:
    """Put an adapter on the hub, beside what nobody needs."""
    more = {".gitattributes": b"g", "training_args.bin": b"pickle", "tokenizer.json": b"{}"}
    hub.repositories[REPOSITORY] = Repository({COMMIT: files | more}, **how)  # type: ignore[arg-type]
    return hub.repositories[REPOSITORY]


def spark_get(operator: Customer) -> Model:
    found: Model | None = Model.objects.filter(name="spark").first()
    return found or make_model(operator)


def wanted(owner: Customer, model: Model, *, name: str = "support", token: str = "", **how: str) -> Adapter:
    """An adapter that waits for its files from the hub."""
    source = HubSource(how.get("repo_id", REPOSITORY), how.get("revision", ""), token)
    return adapter_create(
        org=owner.org, name=name, base_ref=model.ref, files=[], actor=owner.actor, hub=source
    )


def fetch_of(adapter: Adapter) -> HubFetch:
    return HubFetch.objects.get(adapter=adapter)
