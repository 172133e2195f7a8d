"""The doorway that official clients knock at."""

from kindling_doorway import doorway

__all__ = ["doorway"]
