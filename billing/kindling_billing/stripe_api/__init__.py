"""Talks to Stripe, or to whatever stands in for it: the only place that knows Stripe's client."""
