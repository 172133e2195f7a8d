"""The operator: who uses what, credit that is granted once, letters that were kept."""

import re
from html import unescape

import pytest
from django.core.mail import send_mail
from django.urls import reverse

from kindling_billing.models import Notice
from kindling_billing.notices import notice_add, notice_list_waiting, notice_not_taken
from kindling_billing.selectors import balance_get
from kindling_console_world import Member, World
from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.ids import new_id


def grant_id(member: Member, url: str) -> str:
    found = re.search(r'name="grant_id" value="([^"]+)"', member.client.get(url).content.decode())
    assert found
    return found[1]


def test_organisations_show_balance_and_usage(world: World, member: Member):
    world.use(member, requests=2)
    html = world.operator.client.get("/console/operator/organisations/").content.decode()
    assert member.org.slug in html
    assert "$0.999994" in html
    assert "The books balance" in html
    found = world.operator.client.get("/console/operator/organisations/", {"q": "nobody"}).content.decode()
    assert "No organisation matches" in found


def test_older_organisations_are_a_page_further(world: World, member: Member):
    Organisation.objects.bulk_create(
        Organisation(id=new_id("org"), name=f"Many {place}", slug=f"many-{place}") for place in range(60)
    )
    url, seen = "/console/operator/organisations/?q=many", set()
    for shown in (50, 10):
        html = world.operator.client.get(url).content.decode()
        slugs = set(re.findall(r">(many-\d+)<", html))
        assert (len(slugs), slugs & seen) == (shown, set())
        seen |= slugs
        following = re.search(r'rel="next" href="([^"]+)"', html)
        assert (following is not None) == (shown == 50)
        if following:
            url = "/console/operator/organisations/" + unescape(following[1])
    spoilt = world.operator.client.get("/console/operator/organisations/?cursor=nonsense")
    assert "many-59" in spoilt.content.decode()


def test_credit_is_granted_once_per_form(world: World, member: Member):
    url = reverse("console:operator-organisation", args=[member.org.id])
    form = {"amount": "$1,000.50", "memo": "For testing", "grant_id": grant_id(world.operator, url)}
    before = balance_get(owner_id=member.org.id).picousd
    for _ in range(2):
        assert world.operator.client.post(url, form).status_code == 303
    assert balance_get(owner_id=member.org.id).picousd - before == 1_000_500_000_000_000
    granted = AuditEvent.objects.filter(action="credit.granted", target=member.org.id)
    assert granted.filter(actor_label=world.operator.user.email).count() == 1
    assert "For testing" in member.client.get("/console/billing/").content.decode()


@pytest.mark.parametrize("memo", ["", "   "])
def test_no_credit_is_given_without_a_reason(world: World, member: Member, memo: str):
    url = reverse("console:operator-organisation", args=[member.org.id])
    before = balance_get(owner_id=member.org.id)
    form = {"amount": "5", "memo": memo, "grant_id": grant_id(world.operator, url)}
    reply = world.operator.client.post(url, form)
    assert reply.status_code == 422
    assert re.search(
        r'id="memo-help".*?class="field-error" role="alert">This field is required', reply.content.decode()
    )
    assert balance_get(owner_id=member.org.id) == before


@pytest.mark.parametrize("amount", ["", "0", "-5", "ten", "NaN", "Infinity", "1e30", "1000001"])
def test_odd_amounts_are_refused(world: World, member: Member, amount: str):
    url = reverse("console:operator-organisation", args=[member.org.id])
    before = balance_get(owner_id=member.org.id)
    form = {"amount": amount, "memo": "Sorry", "grant_id": grant_id(world.operator, url)}
    reply = world.operator.client.post(url, form)
    assert reply.status_code == 422
    assert balance_get(owner_id=member.org.id) == before


def test_letters_that_were_kept_can_be_read(world: World, member: Member, settings, tmp_path):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path)
    send_mail(
        "Your password",
        "Follow http://testserver/accounts/password/reset/key/abc/",
        None,
        [member.user.email],
    )
    listed = world.operator.client.get("/console/operator/mail/")
    assert listed["Cache-Control"] == "no-store"
    html = listed.content.decode()
    assert "Your password" in html
    assert member.user.email in html
    address = re.search(r'href="(/console/operator/mail/[^"]+/)"', html)
    assert address
    letter = world.operator.client.get(address[1]).content.decode()
    assert 'href="http://testserver/accounts/password/reset/key/abc/"' in letter
    for odd in ("..", "..%2F..%2Fsecrets", "none-0"):
        assert world.operator.client.get(f"/console/operator/mail/{odd}/").status_code == 404


def test_a_refused_letter_is_sent_again_from_its_page(world: World, member: Member):
    notice_add(kind="owner.resumed", key="one", owner_id=member.org.id)
    notice = Notice.objects.get(key="one")
    notice_not_taken(notice_id=notice.id, trouble="550 no such user", is_final=True)
    html = world.operator.client.get("/console/operator/mail/?state=refused").content.decode()
    assert "550 no such user" in html and member.user.email in html
    url = reverse("console:operator-letter-retry", args=[f"notice-{notice.id}"])
    assert url in html
    reply = world.operator.client.post(url, follow=True)
    assert "is sent again within a minute" in reply.content.decode()
    assert notice_list_waiting() == [notice]
    Notice.objects.update(done_at=notice.created_at)
    assert "does not wait" in world.operator.client.post(url, follow=True).content.decode()


def test_the_fleet_shows_every_replica(world: World):
    html = world.operator.client.get("/console/operator/fleet/").content.decode()
    assert "http://127.0.0.1:9" in html
    assert f"{world.deployment.id}-g1-r0" in html
