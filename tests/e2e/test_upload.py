"""Uploading by drop, over a shaky line, and of the wrong things."""

import base64
import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
WEIGHTS = "adapter_model.safetensors"
DROP = """
([target, files]) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
  }
  const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector(target).dispatchEvent(event);
}
"""


def drop(visit: Visit, files: dict[str, bytes]) -> None:
    packed = [[name, base64.b64encode(content).decode()] for name, content in files.items()]
    visit.page.evaluate(DROP, ["#dropzone", packed])


def read(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("adapter_config.json", WEIGHTS)}


@pytest.fixture
def me(visit: Callable[..., Visit]) -> Visit:
    window = visit()
    window.sign_up(f"uploader-{secrets.token_hex(3)}@example.com")
    window.page.goto("/console/adapters/upload/")
    return window


def test_dropped_files_arrive_and_are_checked(me: Visit, intent: Path):
    drop(me, read(intent))
    me.page.get_by_label("Name").fill("dropped")
    me.page.get_by_role("button", name="Upload adapter").click()
    expect(me.page.get_by_role("heading", name="Ready to call")).to_be_visible()


def test_a_lost_part_is_sent_again_by_itself(me: Visit, intent: Path):
    lost = []

    def shaky(route: Route) -> None:
        if len(lost) < 2:
            lost.append(route.request.headers.get("content-range"))
            route.abort("connectionreset")
        else:
            route.continue_()

    me.page.route(f"**/files/{WEIGHTS}", shaky)
    drop(me, read(intent))
    me.page.get_by_label("Name").fill("shaky")
    me.page.get_by_role("button", name="Upload adapter").click()
    expect(me.page.get_by_role("heading", name="Ready to call")).to_be_visible()
    assert len(lost) == 2
    assert lost[0] and lost[0].startswith("bytes 0-")
    # The browser itself notes each broken connection.
    me.complaints = [text for text in me.complaints if "ERR_CONNECTION_RESET" not in text]


def test_an_upload_goes_on_after_a_reload(me: Visit, intent: Path):
    me.page.route(f"**/files/{WEIGHTS}", lambda route: None)
    drop(me, read(intent))
    me.page.get_by_label("Name").fill("paused")
    me.page.get_by_role("button", name="Upload adapter").click()
    me.page.wait_for_url(re.compile(r"\?adapter=adp_"))
    me.page.get_by_role("button", name="Pause").click()
    expect(me.page.get_by_text("What has arrived is kept.")).to_be_visible()
    me.page.unroute(f"**/files/{WEIGHTS}")

    me.page.reload()
    expect(me.page.get_by_role("heading", name="Resume paused")).to_be_visible()
    drop(me, read(intent))
    me.page.get_by_role("button", name="Resume upload").click()
    expect(me.page.get_by_role("heading", name="Ready to call")).to_be_visible()


def test_a_wrong_config_is_found_before_the_weights_are_up(me: Visit, intent: Path):
    sent: list[str] = []
    me.page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    files = read(intent)
    config = json.loads(files["adapter_config.json"]) | {"peft_type": "IA3"}
    drop(me, files | {"adapter_config.json": json.dumps(config).encode()})
    me.page.get_by_label("Name").fill("wrong")
    me.page.get_by_role("button", name="Upload adapter").click()
    expect(me.page.get_by_role("heading", name="Rejected")).to_be_visible()
    expect(me.page.locator(".finding.is-fail")).to_have_count(1)
    expect(me.page.locator(".finding.is-fail .fix")).to_be_visible()
    assert not any(WEIGHTS in url for url in sent)
    me.complaints = [text for text in me.complaints if "409" not in text]


def test_a_pickle_is_refused_unopened(me: Visit, intent: Path):
    drop(
        me,
        {
            "adapter_config.json": (intent / "adapter_config.json").read_bytes(),
            "adapter_model.bin": b"\x80\x04.",
        },
    )
    me.page.get_by_label("Name").fill("pickled")
    me.page.get_by_role("button", name="Upload adapter").click()
    expect(me.page.get_by_role("alert").filter(has_text="is a pickle")).to_be_visible()
    assert me.api("adapters")["data"] == []
    me.complaints = [text for text in me.complaints if "400" not in text]
