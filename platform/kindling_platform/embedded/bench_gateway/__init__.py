"""`./kindling bench gateway`: what the data plane costs beside the engine, and beside its peer."""
