"""The upload form without scripts: the same services, one plain post."""

import io
import json
import zipfile

import numpy as np
import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from safetensors.numpy import save

from kindling_console_world import Member, World
from kindling_platform.adapters.models import Adapter

URL = "/console/adapters/upload/"
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def config(**changes) -> bytes:
    plain = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none",
        "base_model_name_or_path": "kindling/spark",
    }  # fmt: skip
    return json.dumps(plain | changes).encode()


def weights() -> bytes:
    return save(
        {
            f"{LAYER}.lora_A.weight": np.ones((2, 8), np.float32),
            f"{LAYER}.lora_B.weight": np.full((8, 2), 0.5, np.float32),
        }
    )


def post(member: Member, files: dict[str, bytes], **fields):
    sent = [SimpleUploadedFile(name, content) for name, content in files.items()]
    return member.client.post(URL, {"name": "intent", "base_model": "kindling/spark", "files": sent} | fields)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    import dataclasses

    monkeypatch.setattr(settings, "KINDLING_ENV", dataclasses.replace(settings.KINDLING_ENV, home=tmp_path))


def test_both_files_arrive_and_validation_begins(world: World, member: Member):
    reply = post(
        member, {"adapter_model.safetensors": weights(), "adapter_config.json": config(), "README.md": b"x"}
    )
    adapter = Adapter.objects.get(organisation=member.org)
    assert (reply.status_code, reply["Location"]) == (303, f"/console/adapters/{adapter.id}/")
    assert adapter.state == "validating"
    assert {f.name: f.received_bytes for f in adapter.files.all()} == {
        "adapter_config.json": len(config()),
        "adapter_model.safetensors": len(weights()),
        "README.md": 1,
    }


def test_a_zip_arrives_too(world: World, member: Member):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("intent/adapter_config.json", config())
        packed.writestr("intent/adapter_model.safetensors", weights())
    assert post(member, {"intent.zip": archive.getvalue()}).status_code == 303
    assert Adapter.objects.get(organisation=member.org).state == "validating"


def test_a_wrong_config_leads_to_its_report(world: World, member: Member):
    reply = post(
        member, {"adapter_model.safetensors": weights(), "adapter_config.json": config(peft_type="IA3")}
    )
    adapter = Adapter.objects.get(organisation=member.org)
    assert (adapter.state, adapter.error_code) == ("rejected", "peft_type")
    assert reply["Location"] == f"/console/adapters/{adapter.id}/"


@pytest.mark.parametrize(
    ("files", "fields", "sentence"),
    [
        ({"adapter_model.bin": b"\x80\x04."}, {}, "is a pickle"),
        ({"adapter_config.json": b"{}"}, {"name": "Not A Name"}, "lower-case letters"),
        ({"adapter_config.json": b"{}"}, {"base_model": "kindling/none"}, "not one of the available choices"),
        ({}, {}, "Choose the adapter&#x27;s files"),
    ],
)
def test_refusals_are_sentences_and_the_form_is_kept(world: World, member: Member, files, fields, sentence):
    reply = post(member, files, **fields)
    html = reply.content.decode()
    assert reply.status_code == 422
    assert sentence in html
    assert f'value="{fields.get("name", "intent")}"' in html


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"intent.zip": b"PK not really"}, "The zip file is refused"),
        ({"adapter_config.json": config()}, "Not all bytes of adapter_model.safetensors have arrived"),
    ],
)
def test_a_refused_upload_leaves_no_adapter_behind(world: World, member: Member, files, sentence: str):
    reply = post(member, files)
    assert reply.status_code == 422
    assert sentence in reply.content.decode()
    assert Adapter.objects.get(organisation=member.org).state == "deleted"


def test_an_unfinished_upload_can_be_resumed_by_its_address(world: World, member: Member):
    adapter = world.adapter(member, state="uploading", report={})
    html = member.client.get(URL, {"adapter": adapter.id}).content.decode()
    assert f'data-resume="{adapter.id}"' in html
    assert "Resume intent" in html
    assert member.client.get(URL, {"adapter": "adp_none"}).status_code == 404
