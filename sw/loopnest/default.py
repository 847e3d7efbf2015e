"""The chip that ``@`` of tensors runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol


class Multiplier(Protocol):
    """What ``@`` needs of a chip."""

    def matmul(self, A: Any, B: Any) -> Any:
        """Return ``A @ B``."""


_everywhere: Multiplier | None = None
_here: ContextVar[Multiplier | None] = ContextVar("chip", default=None)


def set_default_chip(chip: Multiplier | None) -> None:
    """Set the chip for ``@`` in all threads, or none."""
    global _everywhere
    _everywhere = _checked(chip)


@contextmanager
def use_chip(chip: Multiplier) -> Iterator[Multiplier]:
    """Let ``@`` run on this chip within the ``with`` block; other threads do not see it."""
    token = _here.set(_checked(chip))
    try:
        yield chip
    finally:
        _here.reset(token)


def default_chip() -> Multiplier:
    """Return the chip of the innermost `use_chip`, or that of `set_default_chip`.

    Raises
    ------
    RuntimeError
        If there is neither.
    """
    chip = _here.get() or _everywhere
    if chip is None:
        raise RuntimeError(
            "no chip for @: expected loopnest.set_default_chip(chip), "
            "with loopnest.use_chip(chip), or chip.matmul(A, B)"
        )
    return chip


def _checked(chip: Any) -> Any:
    if chip is not None and not hasattr(chip, "matmul"):
        raise TypeError(f"{type(chip).__name__}: expected a Chip")
    return chip
