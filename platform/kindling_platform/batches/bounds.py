"""How large files of batches may be, how long they are kept, and how many batches an organisation may have at work."""

PART_BYTES = 1024 * 1024
"""What a file is stored in pieces of; the last one may be smaller."""
MAX_FILE_BYTES = 100 * 1024 * 1024
MAX_LINES = 50_000
"""How many requests a batch may have."""
MAX_ORG_BYTES = 2 * 1024 * 1024 * 1024
FILE_KEPT_S = 30 * 24 * 3600
WINDOW_S = 24 * 3600
"""How long a batch may take."""
MAX_ACTIVE = 100
