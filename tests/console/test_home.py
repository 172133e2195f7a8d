"""Home: the checklist ticks itself, numbers follow, nothing shows a zero that is not one."""

from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.deployments.models import Deployment

LIVE = "/console/live/"


def live(member: Member) -> str:
    return member.client.get(LIVE, headers={"HX-Request": "true"}).content.decode()


def test_the_checklist_ticks_itself_as_things_happen(world: World, member: Member):
    assert "0 of 4 done" in live(member)
    key = member.key()
    assert "1 of 4 done" in live(member)
    world.use(member, key_id=key.id)
    assert "2 of 4 done" in live(member)
    adapter = world.adapter(member, state="validating")
    assert "2 of 4 done" in live(member)
    adapter.state = "ready"
    adapter.save()
    assert "3 of 4 done" in live(member)
    world.use(member, key_id=key.id, adapter=adapter)
    # When all is done the list makes room.
    assert "Get started" not in live(member)


def test_the_live_part_brings_the_balance_along(world: World, member: Member):
    assert 'id="balance-pill"' in live(member)
    assert 'hx-swap-oob="true"' in live(member)
    assert "$1.000000" in live(member)
    world.use(member)
    # 10 tokens in at $0.10 and 5 out at $0.40 a million.
    html = live(member)
    assert html.count(">$0.999997<") == 2
    assert html.count("$0.000003") >= 2
    assert 'title="$0.999997000000"' in html


def test_the_whole_page_has_no_out_of_band_part(member: Member):
    html = member.client.get(reverse("console:home")).content.decode()
    assert "hx-swap-oob" not in html
    assert html.count('id="balance-pill"') == 1


def test_failures_of_ours_are_listed_as_free(world: World, member: Member):
    world.use(member, finish="error", completion_tokens=0, first_token_ms=None)
    html = live(member)
    assert "not charged" in html
    assert "$1.000000" in html


def test_stopped_deployments_are_not_called_serving(world: World, member: Member):
    assert f">{world.model.ref}</a>" in live(member)
    Deployment.objects.update(desired_state="stopped", state="stopped")
    assert "Nothing is deployed." in live(member)


def test_an_account_without_credit_is_told_why(member: Member):
    member.org.signup_credit_note = "Many accounts were made in the last hour."
    member.org.save()
    html = member.client.get(reverse("console:home")).content.decode()
    assert "Many accounts were made in the last hour." in html
