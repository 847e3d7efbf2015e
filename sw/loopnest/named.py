"""Classes and functions that a saved program has by name."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

NAMED: dict[str, Callable[..., Any]] = {}
"""What files may name. A function is called with plain arguments only, a class is a dataclass or an
enumeration of plain values."""


def named(thing: T) -> T:
    """Let saved programs name a class or a function."""
    name = thing.__qualname__
    if NAMED.setdefault(name, thing) is not thing:
        raise ValueError(f"{name!r} is named twice: expected another name")
    return thing
