"""Conversion of figures for JSON."""

from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Return a value made of lists, dicts and Python's numbers only."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
