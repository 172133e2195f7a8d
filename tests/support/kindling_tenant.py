"""A customer of a running stack, who does everything the way a real one would: forms, REST, `/v1`."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
T = TypeVar("T")
CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


def poll(read: Callable[[], T], until: Callable[[T], bool], *, seconds: float = 60, every: float = 0.1) -> T:
    """Read again and again until the value is right; the last value is in the error when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if until(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not reached in {seconds} s; last seen: {value!r}")
        time.sleep(every)


@dataclass(slots=True)
class Tenant:
    """One organisation with a signed-in browser session and one API key of every scope."""

    http: httpx.Client
    email: str
    key: str = ""
    slug: str = ""
    adapters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def sign_up(cls, url: str, email: str) -> "Tenant":
        http = httpx.Client(base_url=url, follow_redirects=True, timeout=60)
        form = http.get("/accounts/signup/")
        token = CSRF.search(form.text)
        assert token, form.text[:500]
        password = "correct horse battery staple 7"
        done = http.post(
            "/accounts/signup/",
            data={
                "csrfmiddlewaretoken": token[1],
                "email": email,
                "password1": password,
                "password2": password,
            },
            headers={"Referer": url + "/accounts/signup/"},
        )
        assert done.status_code == 200, (done.status_code, done.text[:500])
        assert done.url.path.startswith("/console"), str(done.url)
        tenant = cls(http=http, email=email)
        made = tenant.api("POST", "/api/v1/keys", {"name": "test", "scopes": ["inference", "read", "manage"]})
        tenant.key = made["key"]
        tenant.slug = tenant.api("GET", "/api/v1/me")["organisation"]["slug"]
        return tenant

    def api(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """Call the control API with the key when there is one, else with the session as the console does."""
        headers = {"Referer": str(self.http.base_url)}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        else:
            headers["X-CSRFToken"] = self.http.cookies.get("csrftoken", "")
        reply = self.http.request(method, path, json=body, headers=headers)
        if expect is None:
            assert reply.is_success, (method, path, reply.status_code, reply.text[:1000])
        else:
            assert reply.status_code == expect, (method, path, reply.status_code, reply.text[:1000])
        return reply.json() if reply.content else None

    def upload(self, name: str, folder: Path, *, base: str = "kindling/spark") -> dict[str, Any]:
        """Upload a PEFT folder and wait until it is ready or rejected."""
        files = [
            {"name": file, "size_bytes": (folder / file).stat().st_size}
            for file in ADAPTER_FILES
            if (folder / file).exists()
        ]
        made = self.api("POST", "/api/v1/adapters", {"name": name, "base_model": base, "files": files})
        for file in files:
            put = self.http.put(
                f"/api/v1/adapters/{made['id']}/files/{file['name']}",
                content=(folder / str(file["name"])).read_bytes(),
                headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/octet-stream"},
            )
            assert put.is_success, (put.status_code, put.text)
        self.api("POST", f"/api/v1/adapters/{made['id']}/complete")
        adapter = poll(
            lambda: self.api("GET", f"/api/v1/adapters/{made['id']}"),
            lambda seen: seen["state"] in {"ready", "rejected"},
        )
        self.adapters[name] = adapter["id"]
        return dict(adapter)

    def balance_picousd(self) -> int:
        return int(self.api("GET", "/api/v1/balance")["balance_picousd"])

    def event(self, request_id: str, *, seconds: float = 60) -> dict[str, Any]:
        """The billed usage event of a request, waited for."""

        def read() -> httpx.Response:
            return self.http.get(
                f"/api/v1/usage/requests/{request_id}", headers={"Authorization": f"Bearer {self.key}"}
            )

        return dict(poll(read, lambda reply: reply.status_code == 200, seconds=seconds).json())
