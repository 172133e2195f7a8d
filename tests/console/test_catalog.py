"""The catalog: filters in the address, an empty result that names the culprit, a model's page."""

import pytest
from django.urls import reverse

from kindling_billing.services import price_publish
from kindling_console_world import SHAPES, Member, World
from kindling_platform.catalog.models import Model

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


def cards(member: Member, **query: str) -> str:
    return member.client.get(URL, query, headers={"HX-Request": "true"}).content.decode()


@pytest.mark.parametrize(
    ("query", "spark", "big_one"),
    [
        ({}, True, True), ({"q": "long"}, False, True), ({"lora": "1"}, True, False), ({"live": "1"}, True, False),
        ({"context": "32768"}, False, True), ({"context": "nonsense"}, True, True), ({"q": "SPARK"}, True, False),
    ],
)  # fmt: skip
def test_filters(member: Member, big: Model, query: dict[str, str], spark: bool, big_one: bool):
    html = cards(member, **query)
    assert ("kindling/spark" in html, "kindling/big" in html) == (spark, big_one)
    assert "<html" not in html
    # The same address opens as a whole page with the same cards.
    whole = member.client.get(URL, query).content.decode()
    assert ("/catalog/kindling/big/" in whole) == big_one


def test_an_empty_result_names_the_filter_to_drop(member: Member, big: Model):
    html = cards(member, q="spark", context="131072")
    assert "There would be some without the search for “spark” or without the context length." in html
    assert "Clear all filters" in html


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


def test_speed_is_measured_from_the_visitors_own_requests(world: World, member: Member):
    url = reverse("console:model", args=["kindling", "spark"])
    assert "measured from your own requests" in member.client.get(url).content.decode()
    world.use(world.member("grace"), requests=2)
    assert "measured from your own requests" in member.client.get(url).content.decode()
    world.use(member, requests=3)
    html = member.client.get(url).content.decode()
    # 20 ms to the first of 5 tokens, 40 ms for the other four.
    assert "100.0 <small>tok/s" in html
    assert "20 ms to the first token, over your last 3 requests" in html


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


def test_a_base_model_is_completed_and_offers_no_chat(world: World, member: Member, big: Model):
    big.chat_ready = False
    big.save(update_fields=["chat_ready"])
    html = member.client.get(reverse("console:model", args=["kindling", "big"])).content.decode()
    assert "Try it" not in html and "chat/completions" not in html
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
    assert "Try it" not in html and "chat/completions" not in html and "/v1/completions" in html


def test_models_that_answer_now_come_first(world: World, member: Member, big: Model):
    """kindling/big stands before kindling/spark in the alphabet, and nothing serves it."""
    home = member.client.get(reverse("console:home")).content.decode()
    assert "kindling/spark" in home and "kindling/big" not in home
    playground = member.client.get(reverse("console:playground")).content.decode()
    assert "kindling/spark" in playground and "kindling/big" not in playground
    world.deployment.desired_state = "stopped"
    world.deployment.save()
    stopped = member.client.get(reverse("console:playground")).content.decode()
    assert "No model to talk to" in stopped and "None that chats is running." in stopped
