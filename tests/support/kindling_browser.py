"""A Chromium for browser tests: whichever there is, and a page that notes what it complains about."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from kindling_tenant import CSRF

# The first one has no windows to draw: a fifth less work.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Two pages behind each window's address bar, which nobody types into, cost a second of a core, and a frame that is made
# anew for each page of one site a fifth of what a page costs; the others are what Playwright switches off, whose list
# this one takes the place of.
FEATURES_OFF = (
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "RenderDocument",
    "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled",
    "PreconnectToSearch",
)  # fmt: skip
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", f"--disable-features={','.join(FEATURES_OFF)}",
]  # fmt: skip
# The receipt of an answer is asked for until it is booked; until then it is not found.
EXPECTED_COMPLAINTS = ("/console/playground/receipt/",)
# A bound that is reached only where something fails, on a machine that is busy with other tests.
PATIENCE_MS = 60_000
PASSWORD = "correct horse battery staple 7"


def chromium_path() -> str | None:
    """The browser that the environment names, else the distribution's; None for Playwright's own."""
    named = os.environ.get("KINDLING_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def started_browser() -> Iterator[Browser]:
    """Start Chromium and stop it again; Playwright's event loop lives no longer than that."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Visit:
    """A visitor with a window of their own."""

    context: BrowserContext
    page: Page
    url: str
    email: str = ""
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Browser, url: str, **options: Any) -> "Visit":
        context = browser.new_context(
            base_url=url, **({"viewport": {"width": 1320, "height": 900}} | options)
        )
        context.set_default_timeout(PATIENCE_MS)
        visit = cls(context, context.new_page(), url)
        visit.page.on("console", lambda message: visit._note(message))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        return visit

    def _note(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        if message.type in {"error", "warning"} and not any(part in where for part in EXPECTED_COMPLAINTS):
            self.complaints.append(f"{self.page.url}: {message.text} ({where})")

    def sign_up(self, email: str) -> None:
        """Make an account and be signed in, without a page: what is looked at is what a test is about."""
        self.email = email
        address = f"{self.url}/accounts/signup/"
        token = CSRF.search(self.context.request.get(address).text())
        assert token, address
        form = {"csrfmiddlewaretoken": token[1], "email": email, "password1": PASSWORD, "password2": PASSWORD}
        done = self.context.request.post(address, form=form, headers={"Referer": address})
        assert done.ok and done.url.endswith("/console/"), (done.status, done.url)

    def sign_up_on_the_page(self, email: str) -> None:
        self.email = email
        self.page.goto("/accounts/signup/")
        self.page.fill("[name=email]", email)
        self.page.fill("[name=password1]", PASSWORD)
        self.page.fill("[name=password2]", PASSWORD)
        self.page.get_by_role("button", name="Create account").click()
        self.page.wait_for_url("**/console/")

    @property
    def slug(self) -> str:
        return self.email.split("@")[0]

    def api(self, path: str) -> Any:
        """Ask the control API as the signed-in visitor."""
        reply = self.context.request.get(f"{self.url}/api/v1/{path}")
        assert reply.ok, (path, reply.status, reply.text()[:500])
        return reply.json()

    def balance_picousd(self) -> int:
        return int(self.api("balance")["balance_picousd"])

    def sideways_scroll_px(self) -> int:
        return int(
            self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )
