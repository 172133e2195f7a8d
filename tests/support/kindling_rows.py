"""Rows for the workers' tests: a customer with money, a model with a price, its deployment, usage records."""

import json
import secrets
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import save_file

from kindling_billing.models import PriceVersion
from kindling_billing.services import credit_grant, price_publish
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.storage import upload_folder
from kindling_platform.catalog.models import Model
from kindling_platform.deployments.models import Deployment
from kindling_workers.replicas import replica_name

DOLLAR = 10**12
SHAPES = {
    "hidden_size": 8, "num_layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 4, "intermediate_size": 16,
}  # fmt: skip


@dataclass(slots=True)
class Shop:
    """An organisation with a dollar, and a priced model with a deployment."""

    org: Organisation
    model: Model
    price: PriceVersion
    deployment: Deployment

    @property
    def replica(self) -> str:
        """The name of the deployment's first replica."""
        return replica_name(deployment_id=self.deployment.id, generation=1, rank=0)

    def record(self, **changes: object) -> UsageRecord:
        """A request of this shop: 10 tokens in, 5 out."""
        now_ms = int(time.time() * 1000)
        context = {
            "org": self.org.id, "key": "key_1", "model": self.model.id, "name": self.model.ref,
            "adapter": "", "deployment": self.deployment.id, "price": self.price.id,
        }  # fmt: skip
        plain = UsageRecord(
            request_id=str(uuid.uuid4()), context=json.dumps(context), tenant=self.org.id, adapter="",
            prompt_tokens=10, cached_tokens=0, completion_tokens=5, finish="stop", started_ms=now_ms - 50,
            first_token_ms=now_ms - 40, finished_ms=now_ms, replica=self.replica,
        )  # fmt: skip
        return msgspec.structs.replace(plain, **changes)


RECORD_COST_PICOUSD = 10 * 100_000 + 5 * 400_000


def make_shop(*, replicas: int = 1) -> Shop:
    org = Organisation.objects.create(slug=f"shop-{secrets.token_hex(4)}", name="Shop")
    model = Model.objects.create(
        organisation=org, name="small", display_name="Small", architecture="LlamaForCausalLM", context_length=64,
        parameters=1, vocab_size=32, shapes=SHAPES, source_path="/models/small", revision="r1",
    )  # fmt: skip
    price = price_publish(
        sku=model.id, input_picousd=100_000, cached_input_picousd=50_000, output_picousd=400_000
    )
    credit_grant(
        owner_id=org.id, amount_picousd=DOLLAR, source_id=f"test:{org.id}", memo="A dollar", actor_id="test"
    )
    deployment = Deployment.objects.create(
        organisation=org, model=model, name="small", desired_replicas=replicas
    )
    return Shop(org=org, model=model, price=price, deployment=deployment)


def make_adapter(shop: Shop, *, out_features: int = 8, name: str = "tuned") -> Adapter:
    """An adapter whose files have arrived and which waits for validation; q_proj of the model is 8 × 8."""
    adapter = Adapter.objects.create(
        organisation=shop.org, base=shop.model, name=name, state=Adapter.State.VALIDATING
    )
    write_adapter(upload_folder(adapter.id), base_ref=shop.model.ref, out_features=out_features)
    return adapter


def write_adapter(folder: Path, *, base_ref: str, out_features: int = 8) -> None:
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none",
        "base_model_name_or_path": base_ref,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {
        f"{layer}.lora_A.weight": np.ones((2, 8), np.float32),
        f"{layer}.lora_B.weight": np.full((out_features, 2), 0.5, np.float32),
    }
    save_file(weights, folder / "adapter_model.safetensors")
