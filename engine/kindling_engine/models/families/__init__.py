"""One file per family of decoders: how its configuration differs from Llama's."""
