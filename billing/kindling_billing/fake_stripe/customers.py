"""Customers and the payment methods they keep."""

from kindling_billing.fake_stripe.cards import CARDS, method_fields
from kindling_billing.fake_stripe.errors import invalid, missing
from kindling_billing.fake_stripe.world import Body, World, page_of


def customer_create(world: World, params: Body) -> Body:
    """Make a customer."""
    customer = world.make(
        "cus", "customer", email=params.get("email"), name=params.get("name"),
        metadata=params.get("metadata") or {}, address=params.get("address"), balance=0, currency=None,
    )  # fmt: skip
    world.emit("customer.created", customer)
    return customer


def customer_get(world: World, params: Body, id: str) -> Body:
    """A customer; of a deleted one only that it was."""
    customer = world.get("customer", id)
    if customer.get("deleted"):
        return {"id": id, "object": "customer", "deleted": True}
    return customer


def customer_update(world: World, params: Body, id: str) -> Body:
    """Change what is named."""
    customer = customer_alive(world, id, param="id")
    merged = customer["metadata"] | params.pop("metadata", {})
    world.store.put(customer | params | {"metadata": merged})
    changed = world.get("customer", id)
    world.emit("customer.updated", changed)
    return changed


def customer_delete(world: World, params: Body, id: str) -> Body:
    """Delete for good; its payment methods go with it."""
    customer = customer_alive(world, id, param="id")
    for method in list(world.store.rows("payment_method")):
        if method["customer"] == id:
            world.store.put(method | {"customer": None})
    world.store.put(customer | {"deleted": True})
    world.emit("customer.deleted", customer)
    return {"id": id, "object": "customer", "deleted": True}


def customer_list(world: World, params: Body) -> Body:
    """Customers that are there, newest first."""
    return page_of(
        world, "customer", params, "/v1/customers", keep=lambda row: not row.get("deleted"),
        email=params.get("email", ""),
    )  # fmt: skip


def customer_alive(world: World, id_: str, *, param: str = "customer") -> Body:
    """A customer that can be charged."""
    customer = world.get("customer", id_, param=param)
    if customer.get("deleted"):
        raise missing("customer", id_, param=param, status=400)
    return customer


def method_list(world: World, params: Body) -> Body:
    """A customer's payment methods."""
    customer = customer_alive(world, str(params.get("customer", "")))
    return page_of(world, "payment_method", params, "/v1/payment_methods", customer=customer["id"])


def method_get(world: World, params: Body, id: str) -> Body:
    """One payment method."""
    return world.get("payment_method", id)


def method_attach(world: World, params: Body, id: str) -> Body:
    """Keep a payment method for a customer."""
    customer = customer_alive(world, str(params.get("customer", "")))
    return method_keep(world, method_of(world, id, param="id"), customer["id"])


def method_detach(world: World, params: Body, id: str) -> Body:
    """Forget a payment method; it can never be charged again."""
    method = world.get("payment_method", id)
    if not method["customer"]:
        raise invalid("The payment method you provided is not attached to a customer.")
    world.store.put(method | {"customer": None, "x_spent": True})
    gone = world.get("payment_method", id)
    world.emit("payment_method.detached", gone)
    return gone


def method_of(world: World, id_: str, *, param: str = "payment_method") -> Body:
    """A payment method by its id, or a new one for a name such as `pm_card_visa`."""
    if id_ in CARDS:
        return world.make("pm", "payment_method", **method_fields(CARDS[id_]))
    return world.get("payment_method", id_, param=param)


def method_keep(world: World, method: Body, customer_id: str) -> Body:
    """Attach, unless it is already."""
    if method.get("x_spent"):
        raise invalid("This PaymentMethod was previously used or detached and may not be used again.")
    if method["customer"] == customer_id:
        return method
    kept = world.store.put(method | {"customer": customer_id})
    world.emit("payment_method.attached", kept)
    return kept
