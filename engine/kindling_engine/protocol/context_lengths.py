"""How long a text may be where a checkpoint does not say."""

# Layers that keep a state have no last position. Models are trained on texts of some thousands of tokens, and answer
# worse behind that.
UNBOUNDED_TOKENS = 8192
