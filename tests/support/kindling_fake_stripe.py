"""The repository's stand-in for Stripe as a process of its own, and the switches that only tests use."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from kindling_billing.stripe_api.client import StripeApi
from kindling_platform.embedded.ports import hold_port

KEY = "sk_test_of_the_tests"
SECRET = "whsec_of_the_tests"
START_TIMEOUT_S = 60
NO_FAULTS: dict[str, Any] = {
    "timeout_after": 0, "stored_500_after": 0, "stored_500_before": 0, "rate_limited": 0, "outage": False,
    "copies": 1, "shuffle_s": 0, "delay_s": 0, "hold": True,
}  # fmt: skip


@dataclass(slots=True)
class FakeStripe:
    """A running stand-in; its webhooks are kept until they are taken, unless told otherwise."""

    url: str
    state: Path
    process: "subprocess.Popen[bytes]"
    http: httpx.Client

    def api(self) -> StripeApi:
        """The platform's own way to it, through Stripe's client."""
        return StripeApi(KEY, api_base=self.url)

    def switch(self, name: str, **given: Any) -> Any:
        """Do what only a test can."""
        reply = self.http.post(f"/_test/{name}", json=given)
        assert reply.status_code in {200, 402}, reply.text
        return reply.json()

    def calm(self) -> None:
        """Nothing fails any more."""
        self.switch("faults", **NO_FAULTS)

    def advance(self, *, hours: float) -> None:
        """Move its clock."""
        self.switch("clock", advance_s=hours * 3600)

    def webhooks(self) -> list[dict[str, str]]:
        """The webhooks that wait: payload and signature."""
        found: list[dict[str, str]] = self.switch("webhooks")
        return found

    def rows(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """A whole list of its API."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.http.get(f"/v1/{path}", params={"limit": 100, **params}).json()
            found += page["data"]
            if not page["has_more"]:
                return found
            params["starting_after"] = found[-1]["id"]

    def kill(self) -> None:
        """The way a crash ends it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def started_fake_stripe(folder: Path, *, webhook_url: str = "") -> Iterator[FakeStripe]:
    """Start it on a free port with its state in `folder`; a second start there goes on with the first one's state."""
    hold = hold_port()
    env = os.environ | {"KINDLING_STRIPE_SECRET_KEY": KEY, "KINDLING_STRIPE_WEBHOOK_SECRET": SECRET}
    state = folder / "stripe.sqlite3"
    process = subprocess.Popen(
        [sys.executable, "-m", "kindling_billing.fake_stripe", "--port", str(hold.port), "--state", str(state),
         "--webhook-url", webhook_url],
        env=env, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{hold.port}"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http:
        try:
            _wait(http, process)
            yield FakeStripe(url, state, process, http)
        finally:
            process.terminate()
            process.wait()
            hold.release()


@pytest.fixture(scope="session")
def fake_stripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeStripe]:
    """One stand-in for all tests of a folder; each has customers of its own there."""
    with started_fake_stripe(tmp_path_factory.mktemp("stripe")) as running:
        yield running


@pytest.fixture
def payments_on(fake_stripe: FakeStripe, settings: Any) -> FakeStripe:
    """The platform pays by the stand-in."""
    fake_stripe.calm()
    settings.KINDLING_ENV = replace(
        settings.KINDLING_ENV,
        stripe_secret_key=KEY,
        stripe_webhook_secret=SECRET,
        stripe_api_base=fake_stripe.url,
    )
    return fake_stripe


def _wait(http: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if http.get("/healthz").status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None and time.monotonic() < deadline, "the stand-in does not answer"
        time.sleep(0.02)
