"""The catalog: filters in the address, an empty result that says which to drop, measured speeds, a model's page."""

import gzip
import re
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from kindling_billing.services import price_publish
from kindling_console_world import SHAPES, Member, World
from kindling_platform.adapters.models import Adapter
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment, Replica
from kindling_platform.deployments.services import replica_observe
from kindling_platform.deployments.speeds import SAMPLES, speeds_measure

URL = "/console/catalog/"


@pytest.fixture
def big(world: World) -> Model:
    model = Model.objects.create(
        organisation=world.operator.org, name="big", display_name="Big", description="Long texts.",
        architecture="LlamaForCausalLM", context_length=131072, parameters=7_000_000_000, vocab_size=32000,
        shapes=SHAPES, licence="MIT", source_path="/models/big", revision="1" * 64, is_public=True, lora_ready=False,
    )  # fmt: skip
    price_publish(
        sku=model.id, input_picousd=2_500_000, cached_input_picousd=1_250_000, output_picousd=10_000_000
    )
    return model


def form_of(html: str) -> dict[str, str]:
    """What a browser would send of the page's filters; what asks for nothing is left out."""
    form = html.split('class="filters')[1].split("</form>")[0]
    said = dict(re.findall(r'<input class="form-control"[^>]* name="(\w+)" value="([^"]*)"', form))
    said |= dict(re.findall(r'<input type="checkbox" name="(\w+)" value="([^"]*)" checked', form))
    for name, options in re.findall(r'<select[^>]* name="(\w+)"[^>]*>(.*?)</select>', form):
        said[name] = "".join(re.findall(r'<option value="([^"]*)" selected', options))
    return {name: value for name, value in said.items() if value}


def cards(member: Member, **query: str) -> str:
    return member.client.get(URL, query, headers={"HX-Request": "true"}).content.decode()


@pytest.mark.parametrize(
    ("query", "spark", "big_one"),
    [
        ({}, True, True), ({"q": "long"}, False, True), ({"lora": "1"}, True, False), ({"warm": "1"}, True, False),
        ({"context": "32768"}, False, True), ({"q": "spark"}, True, False), ({"size": "4-10"}, False, True),
        ({"price_max": "0.4"}, True, False), ({"licence": "mit"}, False, True), ({"task": "chat"}, True, True),
        ({"task": "rerank"}, False, False), ({"q": "spark", "warm": "1", "price_max": "1"}, True, False),
    ],
)  # fmt: skip
def test_filters(member: Member, big: Model, query: dict[str, str], spark: bool, big_one: bool):
    html = cards(member, **query)
    assert ("kindling/spark" in html, "kindling/big" in html) == (spark, big_one)
    assert "<html" not in html
    # The same address opens as a whole page with the same cards, and its form says what was asked.
    whole = member.client.get(URL, query).content.decode()
    assert ("/catalog/kindling/big/" in whole) == big_one
    assert {name: text.casefold() for name, text in form_of(whole).items()} == {"sort": "name"} | query


def test_an_empty_result_says_which_filter_to_drop_and_leads_there(member: Member, big: Model):
    html = cards(member, q="spark", context="131072")
    ways = re.findall(r'<a class="btn" href="([^"]+)">(.+?)</a> <span[^>]*>(.+?)</span>', html)
    assert ways == [
        (f"{URL}?context=131072", "Drop the search for “spark”", "1 model"),
        (f"{URL}?q=spark", "Drop the context of 131,072 tokens", "1 model"),
    ]
    for url, _, _ in ways:
        assert member.client.get(url).content.decode().count("model-card") == 1
    assert "Clear all filters" in html
    hopeless = cards(member, q="nothing", size="900-")
    assert "No single filter is to blame" in hopeless and "Drop " not in hopeless


def test_a_value_that_cannot_be_read_is_said_and_stays_to_be_mended(member: Member, big: Model):
    html = member.client.get(
        URL, {"context": "nonsense", "price_max": "cheap", "q": "spark"}
    ).content.decode()
    assert "Context is left out: Give a whole number of tokens" in html
    assert "Price ceiling is left out: Give dollars per million tokens" in html
    assert 'name="price_max" value="cheap"' in html
    assert html.count("model-card") == 1


def test_what_is_asked_is_text_and_no_markup(member: Member):
    html = member.client.get(
        URL, {"q": "<b>x</b>", "licence": '"><i>', "price_max": '"><i>'}
    ).content.decode()
    assert "<b>x" not in html and "><i>" not in html
    assert "the search for “&lt;b&gt;x&lt;/b&gt;”" in cards(member, q="<b>x</b>")


@pytest.mark.parametrize(
    ("before", "after", "header"),
    [
        ("", {"q": "sp"}, "HX-Replace-Url"), ("?q=sp", {"q": "spark"}, "HX-Replace-Url"),
        ("?price_max=1", {"price_max": "1.5", "q": ""}, "HX-Replace-Url"), ("", {"lora": "1"}, "HX-Push-Url"),
        ("?q=spark&task=chat", {"q": "spark", "task": "completions"}, "HX-Push-Url"),
        ("?lora=1", {"lora": ""}, "HX-Push-Url"), ("", {"sort": "price"}, "HX-Push-Url"),
    ],
)  # fmt: skip
def test_each_choice_is_a_step_to_go_back_by(member: Member, before: str, after: dict[str, str], header: str):
    headers = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{URL}{before}"}
    reply = member.client.get(URL, {"task": "", "size": "", "sort": "name", **after}, headers=headers)
    asked = {name: value for name, value in after.items() if value}
    assert reply[header] == (f"{URL}?{urlencode(asked)}" if asked else URL)
    other = {"HX-Replace-Url": "HX-Push-Url", "HX-Push-Url": "HX-Replace-Url"}[header]
    assert other not in reply
    whole = member.client.get(URL, after)
    assert header not in whole and "<html" in whole.content.decode()


def test_orders(member: Member, big: Model):
    for sort, first in [("name", "big"), ("price", "spark"), ("context", "big"), ("newest", "big")]:
        names = re.findall(r'href="/console/catalog/kindling/(\w+)/"', cards(member, sort=sort))
        assert (names[0], len(names)) == (first, 2), sort


def test_a_model_is_warm_where_a_replica_is_ready_for_this_organisation(
    world: World, member: Member, big: Model
):
    other = world.member("grace")
    running = Deployment.objects.create(organisation=other.org, model=big, name="hers", state="live")
    replica_observe(
        deployment=running, name=f"{running.id}-g1-r0", generation=1, rank=0, state="ready", url="http://127.0.0.1:9",
        pid=43, ready_at=now(),
    )  # fmt: skip
    assert "kindling/big" in cards(other, warm="1") and "kindling/big" not in cards(member, warm="1")
    page = member.client.get(reverse("console:model", args=["kindling", "big"])).content.decode()
    assert ">Warm<" not in page and "hers" not in page
    Replica.objects.filter(deployment=world.deployment).update(state="starting")
    assert "kindling/spark" not in cards(member, warm="1")
    Replica.objects.filter(deployment=world.deployment).update(state="ready", generation=2)
    assert "kindling/spark" not in cards(member, warm="1")


def test_cards_show_what_one_chooses_by(member: Member, big: Model):
    html = cards(member)
    for shown in (
        "$0.10",
        "$0.40",
        "$2.50",
        "$10.00",
        "Stand-in",
        "LoRA-ready",
        "Apache-2.0",
        "131.1k",
        "7B",
    ):
        assert shown in html, shown


def test_a_model_page_shows_price_limits_and_snippets(world: World, member: Member):
    adapter = world.adapter(member)
    html = member.client.get(reverse("console:model", args=["kindling", "spark"])).content.decode()
    for shown in ("$0.10", "$0.05 when cached", "$0.40", "This is a stand-in.", adapter.ref, "2,048"):
        assert shown in html, shown


def test_speeds_come_with_their_samples_and_window_or_not_at_all(world: World, member: Member):
    url = reverse("console:model", args=["kindling", "spark"])
    world.use(member, requests=SAMPLES - 1)
    speeds_measure()
    page, card = member.client.get(url).content.decode(), cards(member)
    assert "Too few requests in the last 24 hours" in page and "tok/s" not in page
    assert "First token" not in card and "tok/s" not in card
    world.use(member)
    speeds_measure()
    page, card = member.client.get(url).content.decode(), cards(member)
    # 20 ms to the first of 5 tokens, 40 ms for the other four.
    assert "100 <small>tok/s" in page and "first token after 20 ms" in page
    assert "Of your organisation" in page and "Of all organisations" not in page
    assert "last 24 hours, measured" in page
    assert "<dt>First token</dt><dd>20 ms</dd>" in card and "100 tok/s" in card
    assert f"<dd>{SAMPLES} of your requests</dd>" in card
    # Two organisations are too few to be hidden among each other.
    world.use(world.member("grace"), requests=100)
    speeds_measure()
    again = cards(member)
    assert f"<dd>{SAMPLES} of your requests</dd>" in again and "100 requests" not in again
    part = member.client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert 'id="model-speed"' in part and "<html" not in part and "20 ms" in part


def test_speeds_of_everybody_are_everybodys_to_see(world: World, member: Member):
    for name, requests in (("grace", 60), ("hugo", 60), ("ines", 40)):
        world.use(world.member(name), requests=requests)
    speeds_measure()
    card = cards(member)
    assert "<dt>Median, last 24 hours</dt><dd>160 requests</dd>" in card
    page = member.client.get(reverse("console:model", args=["kindling", "spark"])).content.decode()
    assert "Of all organisations" in page and "Of your organisation" not in page
    assert not any(name in page for name in ("grace", "hugo", "ines"))


def test_a_model_page_shows_the_visitors_own_adapters_alone(world: World, member: Member, big: Model):
    mine, theirs = world.adapter(member), world.adapter(world.member("grace"), name="secret")
    elsewhere = Adapter.objects.create(organisation=member.org, base=big, name="elsewhere", state="ready")
    html = member.client.get(reverse("console:model", args=["kindling", "spark"])).content.decode()
    assert mine.ref in html
    assert theirs.ref not in html and elsewhere.ref not in html
    member.role("billing")
    reply = member.client.get(reverse("console:model", args=["kindling", "spark"]))
    assert reply.status_code == 200
    assert mine.ref not in reply.content.decode() and "No adapter yet" not in reply.content.decode()


def test_a_model_without_a_price_is_shown_as_one(world: World, member: Member):
    Model.objects.create(
        organisation=world.operator.org, name="free", display_name="Free", is_public=True, context_length=1,
        architecture="LlamaForCausalLM", parameters=1, vocab_size=1, source_path="/nowhere", revision="0" * 64,
    )  # fmt: skip
    assert cards(member, q="free").count("<dd>no price</dd>") == 2
    assert "model-card" not in cards(member, q="free", price_max="1000")
    page = member.client.get(reverse("console:model", args=["kindling", "free"]))
    assert page.status_code == 200 and "not served without a price" in page.content.decode()


def test_the_operator_deploys_from_a_models_page(world: World, member: Member):
    url = reverse("console:model", args=["kindling", "spark"])
    deploy = f"{reverse('console:operator-deployments', args=[world.operator.org.id])}?model=kindling/spark"
    assert f'href="{deploy}"' in world.operator.client.get(url).content.decode()
    assert "Deploy<" not in member.client.get(url).content.decode()
    form = world.operator.client.get(deploy).content.decode()
    assert '<option value="kindling/spark" selected>' in form


def test_the_catalog_costs_as_many_queries_for_two_hundred_models(world: World, member: Member):
    def look() -> tuple[int, bytes]:
        with CaptureQueriesContext(connection) as seen:
            reply = member.client.get(URL, {"sort": "price"})
        return len(seen), reply.content

    few, _ = look()
    models = Model.objects.bulk_create(
        Model(
            organisation=world.operator.org, name=f"model-{number}", display_name=f"Model {number}", is_public=True,
            description="A model among many. " * 8, architecture="LlamaForCausalLM", context_length=8192,
            parameters=10**9, vocab_size=32_000, licence="MIT", source_path="/nowhere", revision="0" * 64,
        )
        for number in range(200)
    )  # fmt: skip
    for model in models[:3]:
        price_publish(sku=model.id, input_picousd=1, cached_input_picousd=1, output_picousd=1)
    many, html = look()
    assert many == few
    assert html.count(b"model-card") == 201
    assert len(gzip.compress(html)) < 60_000


def test_an_embedding_model_offers_no_chat(member: Member, big: Model):
    big.task = "embed"
    big.save(update_fields=["task"])
    html = member.client.get(reverse("console:model", args=["kindling", "big"])).content.decode()
    assert "Try it" not in html
    assert "/v1/embeddings" in html
    assert "chat/completions" not in html
    assert "tokens, each text" in html
    assert ">Embeddings<" in cards(member)
    playground = member.client.get(reverse("console:playground")).content.decode()
    assert "kindling/spark" in playground
    assert "kindling/big" not in playground


def test_a_base_model_is_completed_and_not_chatted_with(world: World, member: Member, big: Model):
    big.chat_ready = False
    big.save(update_fields=["chat_ready"])
    html = member.client.get(reverse("console:model", args=["kindling", "big"])).content.decode()
    assert "Try it" in html and "chat/completions" not in html
    assert "/v1/completions" in html and "Once upon a time there was a lighthouse that" in html
    assert ">Base model<" in cards(member)
    assert "kindling/big" not in member.client.get(reverse("console:playground")).content.decode()


def test_an_adapter_is_called_as_its_base_is(world: World, member: Member):
    adapter = world.adapter(member)
    url = reverse("console:adapter", args=[adapter.id])
    html = member.client.get(url).content.decode()
    assert "Try it" in html and "chat/completions" in html
    Model.objects.filter(id=adapter.base_id).update(chat_ready=False)
    html = member.client.get(url).content.decode()
    assert "Try it" in html and "chat/completions" not in html and "/v1/completions" in html


def test_models_that_answer_now_come_first(world: World, member: Member, big: Model):
    """kindling/big stands before kindling/spark in the alphabet, and nothing serves it."""
    home = member.client.get(reverse("console:home")).content.decode()
    assert "kindling/spark" in home and "kindling/big" not in home
    playground = member.client.get(reverse("console:playground")).content.decode()
    assert "kindling/spark" in playground and "kindling/big" not in playground
    world.deployment.desired_state = "stopped"
    world.deployment.save()
    stopped = member.client.get(reverse("console:playground")).content.decode()
    assert "No model to talk to" in stopped and "None that makes text is running." in stopped
