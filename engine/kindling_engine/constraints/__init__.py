"""What a request's tokens must match: grammars, and a bound on reasoning."""
