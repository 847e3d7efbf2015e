"""The chip for what has no argument for it: ``@`` of tensors, `torch.compile`."""

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
    """Set the chip for ``@`` and `torch.compile` in all threads, or none."""
    global _everywhere
    _everywhere = _checked(chip)


@contextmanager
def use_chip(chip: Multiplier) -> Iterator[Multiplier]:
    """Let ``@`` and `torch.compile` take this chip within the ``with`` block; other threads do not
    see it.
    """
    token = _here.set(_checked(chip))
    try:
        yield chip
    finally:
        _here.reset(token)


def default_chip(what: str = "@", otherwise: str = "chip.matmul(A, B)") -> Multiplier:
    """Return the chip of the innermost `use_chip`, or that of `set_default_chip`.

    Parameters
    ----------
    what, otherwise : str
        What needs it, and how else that gets one; for the message.

    Raises
    ------
    RuntimeError
        If there is neither.
    """
    chip = _here.get() or _everywhere
    if chip is None:
        raise RuntimeError(
            f"no chip for {what}: expected loopnest.set_default_chip(chip), "
            f"with loopnest.use_chip(chip), or {otherwise}"
        )
    return chip


def _checked(chip: Any) -> Any:
    if chip is not None and not hasattr(chip, "matmul"):
        raise TypeError(f"{type(chip).__name__}: expected a Chip")
    return chip
