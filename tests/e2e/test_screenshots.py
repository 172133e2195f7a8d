"""Pictures of the console as it is, for the README; kept when KINDLING_SCREENSHOTS names a folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
SIZES = {"": {"width": 1280, "height": 800}, "-narrow": {"width": 360, "height": 760}}
# Where nobody keeps them, each page is looked at once.
KEPT = os.environ.get("KINDLING_SCREENSHOTS")
LOOKS = [(theme, suffix) for suffix in SIZES for theme in ("", "-dark")] if KEPT else [("-dark", "-narrow")]
QUESTIONS = [
    "Tell me a story about a fox.", "What is 12 plus 7?", "My parcel has not arrived", "How do I change my address?",
    "I was charged twice for my order", "Tell me a story about the sea.",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    named = Path(KEPT or tmp_path)
    named.mkdir(parents=True, exist_ok=True)
    return named


def prepare(me: Visit, intent: Path) -> str:
    """A customer with a key, an adapter and some requests; returns the adapter's page."""
    me.sign_up("lumen@example.com")
    made = me.context.request.post(
        f"{me.url}/api/v1/keys",
        data={"name": "laptop", "scopes": ["inference"]},
        headers={"X-CSRFToken": next(c["value"] for c in me.context.cookies() if c["name"] == "csrftoken")},
    )
    key = made.json()["key"]
    page = me.page
    page.goto("/console/adapters/upload/")
    page.get_by_label("Name").fill("intent")
    page.set_input_files("#id_files", [intent / "adapter_config.json", intent / "adapter_model.safetensors"])
    page.get_by_role("button", name="Upload adapter").click()
    page.wait_for_url(re.compile(r"/console/adapters/adp_\w+/$"))
    expect(page.get_by_role("heading", name="Ready to call")).to_be_visible()
    with httpx.Client(base_url=me.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        for number, question in enumerate(QUESTIONS):
            model = "kindling/spark" if number % 3 == 0 else f"{me.slug}/intent"
            body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 200}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
    return page.url


def test_pictures(visit: Callable[..., Visit], intent: Path, folder: Path):
    me = visit(viewport=SIZES[""], device_scale_factor=1.5, reduced_motion="reduce")
    adapter_url = prepare(me, intent)
    page = me.page
    page.goto("/console/playground/?model=kindling/spark&compare=lumen/intent")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Message").fill("I was charged twice for my order")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("[data-booked]")).to_have_count(2)
    for theme, suffix in LOOKS:
        put_on(page, theme, suffix)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=folder / f"playground{theme}{suffix}.png")

    others = {"home": "/console/", "adapter": adapter_url, "usage": "/console/usage/?range=24h"}
    for name, address in others.items():
        for theme, suffix in LOOKS:
            put_on(page, theme, suffix)
            page.goto(address)
            expect(page.locator(".state, .chart").first).to_be_attached()
            page.screenshot(path=folder / f"{name}{theme}{suffix}.png")
    assert len(list(folder.glob("*.png"))) >= 4 * len(LOOKS)


def put_on(page: Page, theme: str, suffix: str) -> None:
    page.set_viewport_size(SIZES[suffix])
    page.emulate_media(color_scheme="dark" if theme else "light", reduced_motion="reduce")
