"""Tool calls: how model families write them, and how they become deltas of an answer."""
