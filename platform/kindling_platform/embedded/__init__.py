"""The embedded start: one command that runs everything on one machine, and stops it again."""
