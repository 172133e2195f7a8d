"""OpenAI's harmony format: an answer is several messages, each on a channel."""
