"""A disk that runs full while an adapter arrives: a clear refusal, and the upload goes on from where it was."""

import pytest

from kindling_engine.starter import ADAPTER_PATHS
from kindling_people import make_customer, make_model, make_operator
from kindling_platform.adapters.services import adapter_complete, adapter_create, adapter_file_put
from kindling_platform.adapters.storage import upload_folder
from kindling_platform.common.errors import KindlingError
from kindling_small_files import files_end_at

pytestmark = pytest.mark.django_db
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ROOM, BLOCK = 32_768, 10_000


def test_an_upload_that_finds_no_space_says_so_and_goes_on_later():
    owner = make_customer("ada")
    base = make_model(make_operator())
    content = {name: (ADAPTER_PATHS["intent"] / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    adapter = adapter_create(
        org=owner.org,
        name="intent",
        base_ref=base.ref,
        files=[{"name": name, "size_bytes": len(data)} for name, data in content.items()],
        actor=owner.actor,
    )

    def put(name: str, data: bytes, offset: int = 0) -> None:
        blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
        adapter_file_put(
            org=owner.org, adapter_id=adapter.id, name=name, blocks=blocks, actor=owner.actor, offset=offset
        )

    put(CONFIG, content[CONFIG])
    assert len(content[WEIGHTS]) > 2 * ROOM
    with files_end_at(ROOM), pytest.raises(KindlingError) as refused:
        put(WEIGHTS, content[WEIGHTS])
    assert (refused.value.code, refused.value.status) == ("disk_full", 507)
    kept = adapter.files.get(name=WEIGHTS).received_bytes
    path = upload_folder(adapter.id) / WEIGHTS
    assert 0 < kept <= ROOM and path.read_bytes() == content[WEIGHTS][:kept]
    put(WEIGHTS, content[WEIGHTS][kept:], offset=kept)
    assert path.read_bytes() == content[WEIGHTS]
    assert adapter_complete(org=owner.org, adapter_id=adapter.id, actor=owner.actor).state == "validating"
