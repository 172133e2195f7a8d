"""What surrounds every page: policies in headers, error pages, vendored files as they came, readable colours."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
from django.test import Client, RequestFactory

import kindling_console
from kindling_console.pages import errors
from kindling_console_world import Member, World

STATIC = Path(kindling_console.__file__).parent / "static"
VENDOR = STATIC / "vendor"


def test_the_content_policy_is_strict(member: Member):
    policy = member.client.get("/console/")["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";") if rule.strip())
    assert "unsafe" not in policy
    assert rules["frame-ancestors"] == "'none'"
    assert rules["style-src"] == "'self'"
    assert rules["default-src"] == "'self'"


@pytest.mark.parametrize("fragment", [False, True])
def test_error_pages(world: World, rf: RequestFactory, fragment: bool):
    headers = {"HX-Request": "true"} if fragment else {}
    for view, status in ((errors.forbidden, 403), (errors.not_found, 404), (errors.server_error, 500)):
        reply = view(rf.get("/console/", headers=headers))
        html = reply.content.decode()
        assert reply.status_code == status
        assert ("<html" in html) != fragment
    assert re.search(r"err_[0-9a-z]{26}", errors.server_error(rf.get("/")).content.decode())


def test_an_unknown_address_is_a_page(member: Member):
    reply = member.client.get("/console/nowhere/")
    assert reply.status_code == 404
    assert "There is nothing here" in reply.content.decode()


def test_vendored_files_are_those_of_the_lock():
    lock = json.loads((VENDOR / "LOCK").read_text())
    named = {"LOCK"}
    for entry in lock["files"]:
        content = (VENDOR / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]
        assert (VENDOR / entry["licence_file"]).stat().st_size > 200
        named |= {entry["file"], entry["licence_file"]}
        if "packed" in entry:
            assert gzip.decompress((VENDOR / entry["packed"]).read_bytes()) == content
            named.add(entry["packed"])
    assert {path.name for path in VENDOR.iterdir()} == named


def test_every_icon_that_is_asked_for_exists():
    have = set(re.findall(r'<symbol id="([^"]+)"', (VENDOR / "icons.svg").read_text()))
    folder = Path(kindling_console.__file__).parent
    asked = set()
    for path in folder.rglob("*.html"):
        text = path.read_text()
        asked |= set(re.findall(r'{% icon "([^"]+)"', text)) | set(re.findall(r'with mark="([^"]+)"', text))
    asked |= set(re.findall(r'\("[^"]+", "([a-z0-9-]+)", "', (folder / "navigation.py").read_text()))
    assert asked <= have
    assert len(asked) > 30


def test_pages_ask_for_nothing_from_elsewhere(member: Member):
    html = member.client.get("/console/").content.decode()
    sources = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert sources
    assert all(source.startswith("/") for source in sources)
    for source in sources:
        if source.startswith("/static/"):
            assert re.search(r"\?v=[0-9a-f]{10}(#|$)", source), source


def test_static_files_are_served(client: Client):
    for file in ("vendor/htmx.min.js", "console/tokens.css", "vendor/icons.svg"):
        assert client.get(f"/static/{file}").status_code == 200, file


def test_the_large_sheet_travels_packed(client: Client):
    reply = client.get("/static/vendor/tabler.min.css", headers={"Accept-Encoding": "gzip"})
    assert reply["Content-Encoding"] == "gzip"
    assert int(reply["Content-Length"]) < 100_000


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_is_readable_in_both_themes(theme: int):
    css = (STATIC / "console" / "tokens.css").read_text()
    tokens = {
        name: pair[theme]
        for name, *pair in re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", css)
    }
    grounds = ["paper", "paper-sunk", "paper-raised"]
    pairs = [
        (ink, ground) for ink in ("ink", "ink-soft", "ember", "good", "bad", "warn") for ground in grounds
    ]
    pairs += [
        ("ember-strong", "ember-wash"), ("ink", "ember-wash"), ("ink", "bad-wash"), ("ink", "good-wash"),
        ("tblr-primary-fg", "tblr-primary"), ("ink-soft", "good-wash"), ("ink-soft", "bad-wash"), ("ink", "code-bg"),
    ]  # fmt: skip
    for ink, ground in pairs:
        light, dark = sorted((luminance(tokens[ink]), luminance(tokens[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground, tokens[ink], tokens[ground])
