"""Wake-ups of the validation."""

from kindling_platform.adapters.selectors import adapter_list_unvalidated
from kindling_platform.adapters.services import upload_list_expire
from kindling_workers.app import app
from kindling_workers.ticks import tick
from kindling_workers.validation import adapter_validate
from kindling_workers.valkey import valkey_client

# A message that waited longer than this is doubled by the next sweep's.
EXPIRES_S = 30


@app.task(name="adapters.validate")
def validate(adapter_id: str) -> None:
    adapter_validate(adapter_id=adapter_id, valkey=valkey_client())


@app.task(name="adapters.sweep")
def sweep() -> None:
    with tick("adapters.sweep") as mine:
        if not mine:
            return
        for adapter_id in adapter_list_unvalidated():
            validate.apply_async(kwargs={"adapter_id": adapter_id}, expires=EXPIRES_S)
        upload_list_expire()
