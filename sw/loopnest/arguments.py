"""Checks of arguments: each is converted to one type, or refused with its name and value."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loopnest_hw.config import ADDRESS_BITS, POSITION_BITS

MAX_SIZE = 1 << POSITION_BITS
"""Maximum size of an index: positions have as many bits."""


def integer(name: str, value: Any) -> int:
    """Return an integer of Python or NumPy as an int; TypeError for anything else, including a
    bool.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r}: expected an integer")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """Return a bool of Python or NumPy as a bool; TypeError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r}: expected True or False")
    return bool(value)


def string(name: str, value: Any) -> str:
    """Return a str; TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: expected a string")
    return value


def sequence(name: str, values: Any, expected: str) -> tuple[Any, ...]:
    """Return a sequence as a tuple; TypeError for anything else."""
    try:
        return tuple(values)
    except TypeError:
        raise TypeError(f"{name}={values!r}: expected {expected}") from None


def check_shape(shape: Sequence[int], most: int) -> tuple[int, ...]:
    """Return a tensor's shape, of up to ``most`` modes.

    Raises
    ------
    TypeError
        For sizes that are not integers.
    ValueError
        For a size out of its range, or too many.
    """
    given = sequence("shape", shape, "a sequence of integers")
    sizes = tuple(integer(f"shape[{mode}]", n) for mode, n in enumerate(given))
    if len(sizes) > most:
        raise ValueError(f"shape {sizes}: expected order 0 to {most}")
    for n in sizes:
        if not 0 <= n <= MAX_SIZE:
            raise ValueError(f"size {n} in shape {sizes}: expected 0 to 2^{POSITION_BITS}")
    return sizes


def check_mode_order(mode_order: Sequence[int] | None, order: int) -> tuple[int, ...]:
    """Return the mode that each level stores, by default the mode of the same number.

    Raises
    ------
    TypeError
        For modes that are not integers.
    ValueError
        If they are not a permutation.
    """
    given = range(order) if mode_order is None else mode_order
    given = sequence("mode_order", given, "a sequence of integers")
    modes = tuple(integer(f"mode_order[{level}]", mode) for level, mode in enumerate(given))
    if sorted(modes) != list(range(order)):
        raise ValueError(f"mode order {modes}: expected a permutation of 0 to {order - 1}")
    return modes


def check_coordinates(
    coordinates: Sequence[ArrayLike], shape: Sequence[int], values: int
) -> list[NDArray[np.int64]]:
    """Return the entries' coordinates as an array for each mode.

    Parameters
    ----------
    values : int
        Number of entries.

    Raises
    ------
    TypeError
        For coordinates that are not integers.
    ValueError
        For a coordinate outside the shape, or for a wrong number or length of arrays.
    """
    given = sequence("coordinates", coordinates, "an array for each mode")
    if len(given) != len(shape):
        raise ValueError(f"{len(given)} coordinate arrays: expected {len(shape)}")
    columns = []
    for mode, (column, size) in enumerate(zip(given, shape, strict=True)):
        array = np.asarray(column).reshape(-1)
        if array.size and array.dtype.kind not in "iu":
            raise TypeError(f"coordinates of mode {mode} of type {array.dtype}: expected integers")
        outside = (array < 0) | (array >= size)
        if outside.any():
            k = int(np.argmax(outside))
            raise ValueError(
                f"coordinate {array[k]} of entry {k} in mode {mode}: expected 0 to {size - 1}"
            )
        columns.append(array.astype(np.int64, copy=False))
    if any(len(column) != values for column in columns):
        raise ValueError(
            f"coordinates of lengths {[len(c) for c in columns]}: "
            f"expected {values}, one for each value"
        )
    return columns


def check_memory(what: str, shape: Sequence[int], nbytes: int, instead: str) -> None:
    """Refuse an array that is too large for the chip's memory, before the host allocates it.

    Parameters
    ----------
    what, instead : str
        What the array is, and what the user can do instead, for the message.

    Raises
    ------
    ValueError
        If it takes more bytes than 32 bits can address.
    """
    if nbytes > 1 << ADDRESS_BITS:
        raise ValueError(
            f"{what} of shape {tuple(shape)} takes {nbytes} bytes: expected up to "
            f"2^{ADDRESS_BITS}; {instead}"
        )
