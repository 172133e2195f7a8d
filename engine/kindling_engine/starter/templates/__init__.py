"""The hand-written templates behind the synthetic corpus, one module per kind of dialogue."""
