"""The operator's price book: previewed, published, withdrawn, sent as a table, downloaded and read again."""

from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from kindling_billing.models import PriceVersion
from kindling_billing.plans import plan_create
from kindling_billing.selectors import price_map_current
from kindling_console_world import INPUT, Member, World
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now

BOOK, TABLE = "/console/operator/prices/", "/console/operator/prices/table/"
FORM = {"input": "0.2", "cached_input": "0.1", "output": "$0.80"}
HEADER = "model,input_usd_per_million,cached_input_usd_per_million,output_usd_per_million"


def send(world: World, **changes) -> tuple[int, str]:
    reply = world.operator.client.post(BOOK, {"model": world.model.id, **FORM, **changes})
    return reply.status_code, reply.content.decode()


def versions(world: World) -> int:
    return PriceVersion.objects.filter(sku=world.model.id).count()


def moment(days: float) -> str:
    return f"{now() + timedelta(days=days):%Y-%m-%dT%H:%M}"


def test_a_price_is_a_new_version(world: World, member: Member):
    assert send(world)[0] == 303
    first, second = PriceVersion.objects.filter(sku=world.model.id).order_by("created_at")
    assert (first.input_picousd, second.input_picousd) == (100_000, 200_000)
    assert (second.cached_input_picousd, second.output_picousd) == (100_000, 800_000)
    assert "$0.80" in member.client.get("/console/catalog/").content.decode()
    # Requests that were admitted under the old price keep it.
    (request_id,) = world.use(member)
    html = member.client.get(reverse("console:request", args=[request_id])).content.decode()
    assert "$0.000003000000" in html


@pytest.mark.parametrize("price", ["", "-1", "free", "0.0000001", "99999999999", "1e999999", "NaN"])
def test_odd_prices_are_refused(world: World, price: str):
    assert send(world, input=price)[0] == 422
    assert versions(world) == 1


@pytest.mark.parametrize(
    "changes",
    [{"model": "mdl_gone"}, {"plan": "pln_gone"}, {"batch_percent": "101"}, {"valid_from": "never"},
     {"valid_from": "0000-00-00T00:00"}, {"valid_from": "9999-12-31T23:59"}, {"valid_from": "2020-01-01T00:00"}],
)  # fmt: skip
def test_odd_forms_are_refused_and_kept(world: World, changes: dict[str, str]):
    status, html = send(world, **changes)
    assert (status, versions(world)) == (422, 1)
    assert 'value="0.2"' in html
    assert "field-error" in html


def test_a_preview_shows_the_effect_and_writes_nothing(world: World, member: Member):
    world.use(member, requests=2)
    status, html = send(world, do="preview")
    assert (status, versions(world)) == (200, 1)
    assert "The last 30 days" in html
    assert member.org.name in html
    assert 'title="$0.000006000000"' in html  # billed
    assert 'title="$0.000012000000"' in html  # at twice the price
    assert "+$0.000006" in html
    assert 'value="publish"' in html
    assert not AuditEvent.objects.filter(action="price.published").exists()


def test_versions_stand_in_time_order_and_one_to_come_is_withdrawn(world: World):
    assert send(world, valid_from=moment(3))[0] == 303
    html = world.operator.client.get(BOOK).content.decode()
    assert html.index("In force") < html.index("To come")
    coming = PriceVersion.objects.exclude(id=world.price_id).get()
    reply = world.operator.client.post(reverse("console:operator-price-withdraw", args=[coming.id]))
    assert reply.status_code == 303
    later = price_map_current(skus=[world.model.id], at=now() + timedelta(days=9))[world.model.id]
    assert later.input_picousd == INPUT
    assert "Replaced" in world.operator.client.get(BOOK).content.decode()
    gone = world.operator.client.post(
        reverse("console:operator-price-withdraw", args=[world.price_id]), follow=True
    )
    assert "has begun" in gone.content.decode()


def test_a_past_date_is_taken_when_it_is_meant(world: World):
    assert send(world, valid_from=moment(-3), corrects="on")[0] == 303
    assert versions(world) == 2


def test_a_plans_price_is_for_its_plan_alone(world: World, member: Member):
    plan = plan_create(name="Partner")
    assert send(world, plan=plan.id)[0] == 303
    html = world.operator.client.get(BOOK).content.decode()
    assert "Plan Partner" in html
    assert "$0.80" not in member.client.get("/console/catalog/").content.decode()
    prepared = world.operator.client.get(BOOK, {"model": world.model.id, "plan": plan.id}).content.decode()
    assert 'value="0.8"' in prepared


def test_a_model_keeps_its_price_of_machine_time(world: World):
    PriceVersion.objects.create(
        sku=world.model.id, input_picousd=1, cached_input_picousd=1, output_picousd=1, gpu_ms_picousd=77,
    )  # fmt: skip
    send(world)
    assert price_map_current(skus=[world.model.id])[world.model.id].gpu_ms_picousd == 77


def table(world: World, text: str, **more):
    return world.operator.client.post(TABLE, {"table": text, **more})


def test_a_table_is_checked_previewed_and_published_whole(world: World, member: Member):
    world.use(member)
    text = f"{HEADER},valid_from\n{world.model.ref},1,1,1,\n{world.model.ref},2,2,2,{moment(5)}\n"
    preview = table(world, text, do="preview")
    assert (preview.status_code, versions(world)) == (200, 1)
    assert "2 new prices" in preview.content.decode()
    assert table(world, text).status_code == 303
    assert versions(world) == 3
    assert AuditEvent.objects.filter(action="price.published").count() == 2


def test_one_bad_row_stops_the_whole_table(world: World):
    reply = table(world, f"{HEADER}\n{world.model.ref},1,1,1\nkindling/gone,1,1,1\n")
    assert (reply.status_code, versions(world)) == (422, 1)
    html = reply.content.decode()
    assert "Line 3" in html
    assert "kindling/gone" in html
    assert table(world, f"{HEADER},valid_from\n{world.model.ref},1,1,1,2020-01-01\n").status_code == 422
    assert versions(world) == 1


def test_the_book_that_was_downloaded_has_nothing_new(world: World):
    send(world, valid_from=moment(9), reasoning="1.5")
    reply = world.operator.client.get(reverse("console:operator-price-book"))
    assert reply["Content-Type"].startswith("text/csv")
    text = b"".join(reply).decode()
    assert text.count(world.model.ref) == 2
    sent = world.operator.client.post(TABLE, {"file": SimpleUploadedFile("book.csv", text.encode())})
    assert sent.status_code == 422
    assert "2 rows are in the book already" in sent.content.decode()
    changed = text.replace(",1.5,", ",1.25,")
    assert world.operator.client.post(
        TABLE, {"file": SimpleUploadedFile("book.csv", changed.encode())}
    ).status_code == 303  # fmt: skip
    assert versions(world) == 3


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"\x00", b"<html></html>"])
def test_a_file_that_is_no_table_is_refused(world: World, content: bytes):
    reply = world.operator.client.post(TABLE, {"file": SimpleUploadedFile("book.csv", content)})
    assert (reply.status_code, versions(world)) == (422, 1)


def test_members_change_no_price(world: World, member: Member):
    for url in (BOOK, TABLE, reverse("console:operator-price-withdraw", args=[world.price_id])):
        assert member.client.post(url, {"model": world.model.id, **FORM}).status_code == 403
    assert member.client.get(reverse("console:operator-price-book")).status_code == 403
    assert versions(world) == 1
