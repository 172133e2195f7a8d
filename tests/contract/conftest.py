"""The doorway that official clients knock at."""

from kindling_doorway import doorway
from kindling_patience import patience

__all__ = ["doorway", "patience"]
