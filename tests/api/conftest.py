"""People who call the API."""

from kindling_fake_stripe import fake_stripe, payments_on
from kindling_kept_people import ada, bob, kept_ada, kept_bob, kept_operator, operator

__all__ = ["ada", "bob", "fake_stripe", "kept_ada", "kept_bob", "kept_operator", "operator", "payments_on"]
