"""Records that wait for the operator: why each is here, what to do about it, and doing it."""
