"""What can be called: base models and adapters by name, with the price that is bound to the request."""

from dataclasses import dataclass, replace
from typing import Any

from kindling_billing.rating import Price
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.caches import LoadFailedError, TtlCache
from kindling_platform.gateway.database import (
    ALIASES_OF_ORG,
    MODEL_BY_ALIAS,
    MODEL_BY_NAME,
    MODELS_OF_ORG,
    PLAN_PRICES_OF_ORG,
    Database,
)
from kindling_platform.gateway.errors import GatewayError, books_unavailable, model_not_found
from kindling_platform.gateway.names import ModelName, parse_model_name


@dataclass(frozen=True, slots=True)
class Model:
    """A callable base or adapter; `model_id` and `base_ref` are the base's, without `price` no service.

    `alias` is its organisation's other name for it, where it was found or is listed under that name.
    """

    org_id: str
    org_slug: str
    is_public: bool
    name: str
    kind: str
    model_id: str
    base_ref: str
    adapter_id: str
    adapter_hash: str
    context_length: int
    price_version_id: str
    price: Price | None
    created_s: int
    alias: str = ""

    @property
    def ref(self) -> str:
        return f"{self.org_slug}/{self.name}"

    @property
    def owner_slug(self) -> str:
        """Who owns the base: shared deployments of a model are its owner's."""
        return self.base_ref.partition("/")[0] if self.base_ref else self.org_slug


class Catalog:
    """Models by name and by organisation, as of at most a second ago."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_name: TtlCache[tuple[str, str], Model | None] = TtlCache(self._load)
        self._by_alias: TtlCache[tuple[str, str], Model | None] = TtlCache(self._load_alias)
        self._by_org: TtlCache[str, list[Model]] = TtlCache(self._load_all, size=1000)
        self._plan_prices: TtlCache[str, dict[str, tuple[str, Price]]] = TtlCache(self._load_plan_prices)

    async def find(self, caller: Caller, name: ModelName | None, text: str) -> Model:
        """The model of a name if the caller may see it; `text` is the name as it was sent."""
        if name is None:
            raise model_not_found(text)
        key = (name.org_slug or caller.org_slug, name.name)
        entry = self._by_name.fresh(key)
        try:
            model = entry.value if entry else await self._by_name.get(key)
            if model is None or not may_see(caller, model):
                # A name of its own comes first, so that an alias never hides a model.
                alias = text.partition("#")[0]
                model = await self._by_alias.get((caller.org_id, alias))
                model = model and replace(model, alias=alias)
        except LoadFailedError as error:
            raise books_unavailable() from error
        if model is None or not may_see(caller, model):
            raise model_not_found(text)
        if not caller.may_call(model.ref):
            raise model_not_allowed(model.ref)
        return await self._priced(caller, model)

    async def visible(self, caller: Caller) -> list[Model]:
        """Public models and the caller's own, by name, then by alias, as far as the key may call them."""
        try:
            models = await self._by_org.get(caller.org_id)
        except LoadFailedError as error:
            raise books_unavailable() from error
        return [await self._priced(caller, model) for model in models if caller.may_call(model.ref)]

    async def _priced(self, caller: Caller, model: Model) -> Model:
        """The model at the caller's own price, if their organisation's plan has one."""
        entry = self._plan_prices.fresh(caller.org_id)
        try:
            prices = entry.value if entry else await self._plan_prices.get(caller.org_id)
        except LoadFailedError as error:
            raise books_unavailable() from error
        if model.model_id not in prices:
            return model
        version_id, price = prices[model.model_id]
        return replace(model, price_version_id=version_id, price=price)

    async def _load(self, key: tuple[str, str]) -> Model | None:
        row = await self._database.row(MODEL_BY_NAME, key)
        return model_from_row(row) if row else None

    async def _load_alias(self, key: tuple[str, str]) -> Model | None:
        row = await self._database.row(MODEL_BY_ALIAS, key)
        return model_from_row(row) if row else None

    async def _load_all(self, org_id: str) -> list[Model]:
        models = [model_from_row(row) for row in await self._database.rows(MODELS_OF_ORG, [org_id])]
        aliases = await self._database.rows(ALIASES_OF_ORG, [org_id])
        return models + aliased(models, aliases, org_id=org_id) if aliases else models

    async def _load_plan_prices(self, org_id: str) -> dict[str, tuple[str, Price]]:
        rows = await self._database.rows(PLAN_PRICES_OF_ORG, [org_id])
        return {row["model_id"]: (row["price_version_id"], _price(row)) for row in rows}


def aliased(models: list[Model], aliases: list[dict[str, Any]], *, org_id: str) -> list[Model]:
    """The models that aliases stand for; one that a model is called like stands for nothing."""
    known = {(model.org_slug, model.name): model for model in models}
    own = {model.name for model in models if model.org_id == org_id}
    found = []
    for row in aliases:
        model, name = known.get((row["target_slug"], row["target_name"])), parse_model_name(row["alias"])
        if model is None or name is None:
            continue
        if name.name not in own if not name.org_slug else (name.org_slug, name.name) not in known:
            found.append(replace(model, alias=row["alias"]))
    return found


def may_see(caller: Caller, model: Model) -> bool:
    """Whether a model is public or the caller's organisation's."""
    return model.is_public or model.org_id == caller.org_id


def model_not_allowed(ref: str) -> GatewayError:
    """403 for a model that the organisation may call, but not with this key."""
    message = f"This API key may not call the model {ref!r}: it is bound to others. See GET /v1/models."
    return GatewayError(403, "model_not_allowed", message, param="model")


def price_of(model: Model, caller: Caller) -> Price:
    """What a caller pays for a model; no price, no service."""
    if model.price is None:
        message = f"The model {model.ref!r} has no price yet, so it cannot be called. Tell its owner."
        raise GatewayError(503, "price_missing", message, param="model")
    return model.price.for_batch() if caller.batch else model.price


def model_from_row(row: dict[str, Any]) -> Model:
    """A model from a row of gateway_model."""
    unpriced = not row["price_version_id"] or row["output_picousd"] is None
    return Model(
        org_id=row["org_id"],
        org_slug=row["org_slug"],
        is_public=row["is_public"],
        name=row["name"],
        kind=row["kind"],
        model_id=row["model_id"],
        base_ref=row["base_ref"] or "",
        adapter_id=row["adapter_id"] or "",
        adapter_hash=row["adapter_hash"] or "",
        context_length=row["context_length"],
        price_version_id=row["price_version_id"] or "",
        price=None if unpriced else _price(row),
        created_s=int(row["created_at"].timestamp()),
    )


def _price(row: dict[str, Any]) -> Price:
    return Price(
        row["input_picousd"],
        row["cached_input_picousd"],
        row["output_picousd"],
        reasoning=row["reasoning_picousd"],
        batch_percent=row["batch_percent"],
    )
