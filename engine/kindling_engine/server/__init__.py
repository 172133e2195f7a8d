"""The engine's front: HTTP, chat templates, tokens to text, usage. It never imports torch."""
