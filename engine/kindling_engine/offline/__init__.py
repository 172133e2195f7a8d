"""The engine without a server: what stands behind ``kindling_engine.llm``."""
