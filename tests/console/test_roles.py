"""What each role may see and do in the console follows the one table of roles."""

import re

import pytest
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.keys.models import ApiKey

READS = {
    "keys": "keys.read", "usage": "usage.read", "billing": "billing.read", "deployments": "deployments.read",
    "adapters": "adapters.read", "catalog": "models.read",
}  # fmt: skip


@pytest.mark.parametrize(
    ("role", "closed"),
    [
        ("owner", set()), ("admin", set()), ("developer", {"billing"}), ("viewer", {"billing"}),
        ("billing", {"keys", "adapters", "deployments"}),
    ],
)  # fmt: skip
def test_pages_open_by_role(world: World, member: Member, role: str, closed: set[str]):
    from kindling_platform.accounts.roles import ROLE_ACTIONS

    member.role(role)
    for name, action in READS.items():
        reply = member.client.get(reverse(f"console:{name}"))
        assert reply.status_code == (200 if action in ROLE_ACTIONS[role] else 403), (role, name)
    # The home page is everybody's, and shows only what the role may see.
    home = member.client.get(reverse("console:home"))
    assert home.status_code == 200
    assert (b"balance-pill" in home.content) == ("billing.read" in ROLE_ACTIONS[role])


def test_a_viewer_can_change_nothing(world: World, member: Member):
    adapter = world.adapter(member)
    key = member.key()
    member.role("viewer")
    for name, args in [
        ("keys", []), ("key-revoke", [key.id]), ("key-rotate", [key.id]), ("key-limits", [key.id]),
        ("adapter-delete", [adapter.id]),
        ("adapter-upload", []), ("adapter-hub", []), ("playground", []),
        ("deployment-action", [world.deployment.id, "stop"]), ("deployment-new", []),
        ("deployment-restored", [world.deployment.id, "1"]),
    ]:  # fmt: skip
        assert member.client.post(reverse(f"console:{name}", args=args)).status_code == 403, name
    assert ApiKey.objects.get(id=key.id).revoked_at is None
    page = member.client.get(reverse("console:keys")).content.decode()
    assert "Create key" not in page
    assert ">Revoke<" not in page


def test_no_button_leads_a_viewer_to_a_refusal(world: World, member: Member):
    adapter = world.adapter(member)
    model = reverse("console:model", args=[world.model.organisation.slug, world.model.name])
    pages = (reverse("console:home"), model, reverse("console:adapter", args=[adapter.id]))
    links = "|".join(reverse(f"console:{name}") for name in ("playground", "adapter-upload"))
    button = re.compile(rf'<a class="btn(?: btn-primary)?" href="(?:{links})')
    for role, may in (("developer", True), ("viewer", False)):
        member.role(role)
        for url in pages:
            head = member.client.get(url).content.decode().split("<main")[1].split('id="adapters"')[0]
            assert bool(button.search(head)) is may, (role, url)


def test_a_form_of_another_site_is_refused_with_a_sentence(world: World, member: Member):
    member.client.handler.enforce_csrf_checks = True
    reply = member.client.post(reverse("console:keys"), {"name": "laptop", "scopes": ["inference"]})
    assert reply.status_code == 403
    assert "This form is too old" in reply.content.decode()
    assert not ApiKey.objects.filter(organisation=member.org).exists()
