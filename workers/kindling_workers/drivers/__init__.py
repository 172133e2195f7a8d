"""Drivers run engine replicas somewhere: `local` asks the agent of this host."""
