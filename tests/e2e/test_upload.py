"""Uploading by drop, over a shaky line, and of the wrong things."""

import base64
import hashlib
import io
import json
import re
import secrets
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from kindling_browser import Visit
from kindling_platform.adapters.storage import content_hash_of

pytestmark = [pytest.mark.stack, pytest.mark.browser]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
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

# Opens an upload and sends the beginnings of its files, as a page does that is closed then.
BEGIN = """
async ([name, files]) => {
  const form = document.getElementById("upload");
  const ask = async (method, path, body, headers = {}) => {
    const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
    const reply = await fetch(form.dataset.api + path, { method, body, headers: { "X-CSRFToken": token, ...headers } });
    if (!reply.ok) throw new Error(await reply.text());
    return reply.json();
  };
  const claims = files.map(([name, , size]) => ({ name, size_bytes: size }));
  const body = JSON.stringify({ name, base_model: form.elements.base_model.value, files: claims });
  const { id } = await ask("POST", "", body, { "Content-Type": "application/json" });
  for (const [name, text, size] of files) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const headers = {
      "Content-Type": "application/octet-stream", "Content-Range": `bytes 0-${bytes.length - 1}/${size}`,
    };
    if (bytes.length) await ask("PUT", `/${id}/files/${name}`, bytes, headers);
  }
  return id;
}
"""
DIGESTS = """
async (sizes) => {
  const { sha256 } = await import(document.getElementById("upload").dataset.sha256);
  return Promise.all(sizes.map((size) => sha256(new Blob([new Uint8Array(size).fill(7)]))));
}
"""


def drop(visit: Visit, files: dict[str, bytes]) -> None:
    packed = [[name, base64.b64encode(content).decode()] for name, content in files.items()]
    visit.page.evaluate(DROP, ["#dropzone", packed])


def pause(visit: Visit, folder: Path, name: str) -> None:
    """Begin an upload whose weights never arrive, and press Pause."""
    page = visit.page
    page.route(f"**/files/{WEIGHTS}", lambda route: None)
    drop(visit, read(folder))
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Upload adapter").click()
    page.wait_for_url(re.compile(r"\?adapter=adp_"))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("What has arrived is kept.")).to_be_visible()
    page.unroute(f"**/files/{WEIGHTS}")


def read(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def retrained(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files of the same names, sizes and headers, with every weight's sign turned: what they make is the same."""
    weights = bytearray(files[WEIGHTS])
    data = 8 + int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8:data])
    kind = next(entry["dtype"] for name, entry in header.items() if name != "__metadata__")
    step = {"F32": 4, "F16": 2, "BF16": 2}[kind]
    weights[data + step - 1 :: step] = bytes(byte ^ 0x80 for byte in weights[data + step - 1 :: step])
    return files | {WEIGHTS: bytes(weights)}


def begin(visit: Visit, name: str, files: dict[str, bytes], arrived: dict[str, int]) -> str:
    """An upload of which so many bytes of each file have arrived; opens the page that goes on with it."""
    packed = [
        [file, base64.b64encode(content[: arrived[file]]).decode(), len(content)]
        for file, content in files.items()
    ]
    adapter = str(visit.page.evaluate(BEGIN, [name, packed]))
    visit.page.goto(f"/console/adapters/upload/?adapter={adapter}")
    expect(visit.page.get_by_role("heading", name=f"Resume {name}")).to_be_visible()
    return adapter


def content_hash(files: dict[str, bytes], folder: Path) -> str:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return content_hash_of(folder)


def zip_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def ready(visit: Visit) -> dict[str, object]:
    """The only adapter, once it can be called."""
    expect(visit.page.get_by_role("heading", name="Ready to call")).to_be_visible()
    (adapter,) = visit.api("adapters")["data"]
    return dict(adapter)


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
    pause(me, intent, "paused")

    me.page.reload()
    expect(me.page.get_by_role("heading", name="Resume paused")).to_be_visible()
    drop(me, read(intent))
    me.page.get_by_role("button", name="Resume upload").click()
    expect(me.page.get_by_role("heading", name="Ready to call")).to_be_visible()


def test_the_digest_is_the_one_that_the_server_makes(me: Visit):
    sizes = [0, 1, 55, 56, 63, 64, 65, 4 * 2**20 - 1, 4 * 2**20, 4 * 2**20 + 1]
    expected = [hashlib.sha256(b"\x07" * size).hexdigest() for size in sizes]
    assert me.page.evaluate(DIGESTS, sizes) == expected


def test_the_same_files_go_on_behind_what_has_arrived(me: Visit, intent: Path, tmp_path: Path):
    files = read(intent)
    half = len(files[WEIGHTS]) // 2
    adapter = begin(me, "same", files, {CONFIG: len(files[CONFIG]), WEIGHTS: half})
    sent: list[str | None] = []
    me.page.on("request", lambda asked: sent.append(asked.headers.get("content-range")))
    drop(me, files)
    me.page.get_by_role("button", name="Resume upload").click()
    made = ready(me)
    assert (made["id"], made["content_hash"]) == (adapter, content_hash(files, tmp_path))
    assert [one for one in sent if one] == [f"bytes {half}-{len(files[WEIGHTS]) - 1}/{len(files[WEIGHTS])}"]


def changed_config(files: dict[str, bytes]) -> dict[str, bytes]:
    config = json.loads(files[CONFIG])
    return files | {CONFIG: files[CONFIG].replace(b'"lora_alpha": %d' % config["lora_alpha"],
                                                  b'"lora_alpha": %d' % (config["lora_alpha"] + 1))}  # fmt: skip


def longer_config(files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {CONFIG: files[CONFIG] + b"\n"}


@pytest.mark.parametrize("change", [retrained, changed_config, longer_config])
def test_other_files_are_sent_from_the_beginning(
    me: Visit, intent: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]
):
    files = read(intent)
    others = change(files)
    assert others != files
    begin(me, "other", files, {CONFIG: len(files[CONFIG]), WEIGHTS: len(files[WEIGHTS]) // 2})
    drop(me, others)
    me.page.get_by_role("button", name="Resume upload").click()
    assert ready(me)["content_hash"] == content_hash(others, tmp_path)


def test_whoever_was_signed_out_is_told_what_to_do(me: Visit, intent: Path):
    me.page.get_by_label("Name").fill("signed-out")
    drop(me, read(intent))
    me.page.context.clear_cookies()
    me.page.get_by_role("button", name="Upload adapter").click()
    expect(me.page.get_by_text("You are signed out")).to_be_visible()
    expect(me.page.get_by_text("Reload this page and sign in.")).to_be_visible()
    me.complaints = [text for text in me.complaints if "401" not in text]


def test_one_file_of_two_begins_nothing(me: Visit, intent: Path):
    drop(me, {CONFIG: read(intent)[CONFIG]})
    me.page.get_by_label("Name").fill("half")
    me.page.get_by_role("button", name="Upload adapter").click()
    expect(me.page.get_by_role("alert").filter(has_text=f"Choose {WEIGHTS} too.")).to_be_visible()
    assert me.api("adapters")["data"] == []


def test_after_a_refusal_another_name_counts_and_nothing_is_left(me: Visit, intent: Path):
    drop(me, {"first.zip": b"PK not really"})
    me.page.get_by_label("Name").fill("first")
    me.page.get_by_role("button", name="Upload adapter").click()
    expect(me.page.get_by_role("alert").filter(has_text="The zip file is refused")).to_be_visible()
    assert me.api("adapters")["data"] == []
    assert "adapter=" not in me.page.url

    drop(me, {"first.zip": zip_of(read(intent))})
    me.page.get_by_label("Name").fill("second")
    me.page.get_by_role("button", name="Upload adapter").click()
    assert ready(me)["name"] == "second"
    me.complaints = [text for text in me.complaints if "400" not in text]


def test_a_name_that_is_changed_in_a_pause_counts(me: Visit, intent: Path):
    pause(me, intent, "early")
    me.page.get_by_label("Name").fill("late")
    me.page.get_by_role("button", name="Upload adapter").click()
    assert ready(me)["name"] == "late"


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
