"""LoRA adapters: read, kept within a byte budget, and applied to mixed batches."""
