"""Model families by the architecture named in a checkpoint's config.json."""
