"""How much memory a replica has for adapters, unless it is told otherwise."""

LORA_MIB = 512
"""Of their own, in MiB."""
LORA_BORROW = 50
"""The percentage of the KV cache's blocks that they may borrow while requests leave them idle."""
