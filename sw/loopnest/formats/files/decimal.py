"""Converts decimal text to numbers, many fields at a time, with a single rounding."""

import numpy as np
from numpy.typing import NDArray

RUN = 24
"""Bytes before a field's end that `digits` may read."""

WORD = 8
"""Digits that are converted together, as the bytes of one integer."""

MAX_DIGITS = 19
"""Digits that always fit 64 bits."""

# Bytes of a field of 0 to 8 digits that ends where a word does, and the zeros in front of it.
KEPT = np.array([((1 << 64) - 1) >> 8 * (8 - n) << 8 * (8 - n) for n in range(9)], np.uint64)
ZEROS = np.array([0x3030303030303030 & ~int(kept) for kept in KEPT], np.uint64)
POWERS = np.array([10**n for n in range(MAX_DIGITS + 1)], np.uint64)

# A product or quotient of two exact numbers is rounded once in this type; it holds integers of 64
# bits and powers of ten up to 27 exactly. Where there is none, float64 serves, up to 53 bits.
EXTENDED = np.finfo(np.longdouble).nmant in (63, 112)
WIDE = np.longdouble if EXTENDED else np.float64
MAX_MANTISSA = (1 << 64) - 1 if EXTENDED else 1 << 53
MAX_POWER = 27 if EXTENDED else 22
WIDE_POWERS = np.cumprod(np.array([1] + [10] * MAX_POWER, WIDE))


def digits(
    text: bytes, end: NDArray[np.int64], length: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the numbers of fields of digits, and whether they are digits.

    Parameters
    ----------
    end, length : NDArray[np.int64]
        The end of each field, `RUN` or more, and its length. The number of a field longer than
        `MAX_DIGITS` is undefined.
    """
    words = np.ndarray((len(text) - WORD + 1,), "<u8", text, strides=(1,))
    value = np.zeros(len(end), np.uint64)
    good = np.ones(len(end), bool)
    longest = min(int(length.max(initial=0)), MAX_DIGITS)
    for first in range(0, longest, WORD):
        taken = np.clip(length - first, 0, WORD)
        word = words[end - first - WORD] & KEPT[taken] | ZEROS[taken]
        good &= (
            (word + np.uint64(0x4646464646464646) | word - np.uint64(0x3030303030303030))
            & np.uint64(0x8080808080808080)
        ) == 0
        # neighbours are combined: digits to pairs, pairs to fours, fours to eights
        word = (word & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(10 << 8 | 1) >> np.uint64(8)
        word = (word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 << 16 | 1) >> np.uint64(16)
        word = (word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(10000 << 32 | 1) >> np.uint64(32)
        value += word * POWERS[first]
    return value, good


def decimals(
    text: bytes, start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the float64 nearest to each field, and whether it could be determined.

    It can be for ``[+-]digits[.digits][(e|d)[+-]digits]`` with few digits and a small exponent,
    unless the value is too close to the midpoint of two float64 numbers. Other fields may have any
    contents.
    """
    known = np.frombuffer(text, np.uint8)
    negative = known[start] == ord("-")
    first = start + (negative | (known[start] == ord("+")))
    lower = known | 0x20
    mantissa_end, one_exponent = _find((lower == ord("e")) | (lower == ord("d")), first, end)
    point, one_point = _find(known == ord("."), first, mantissa_end)
    fraction = np.maximum(mantissa_end - point - 1, 0)
    total = point - first + fraction
    mantissa, good = digits(text, point, point - first)
    low, good_low = digits(text, mantissa_end, fraction)
    mantissa = mantissa * POWERS[np.minimum(fraction, MAX_DIGITS)] + low
    good &= good_low & one_exponent & one_point & (total >= 1) & (total <= MAX_DIGITS)
    power = -fraction
    has_exponent = mantissa_end < end
    if has_exponent.any():
        exponent_start = np.minimum(mantissa_end + 1, end)
        sign = known[np.minimum(exponent_start, len(known) - 1)]
        signed = has_exponent & ((sign == ord("-")) | (sign == ord("+")))
        exponent_start = exponent_start + signed
        length = end - exponent_start
        exponent, good_exponent = digits(text, end, length)
        good &= good_exponent & (~has_exponent | ((length >= 1) & (length <= WORD)))
        exponent = np.where(good, exponent, 0).astype(np.int64)
        power = power + np.where(signed & (sign == ord("-")), -exponent, exponent)
    good &= (np.abs(power) <= MAX_POWER) & (mantissa <= MAX_MANTISSA)
    scale = WIDE_POWERS[np.minimum(np.abs(power), MAX_POWER)]
    exact = mantissa.astype(WIDE)
    wide = np.where(power < 0, exact / scale, exact * scale)
    values = wide.astype(np.float64)
    # Rounding twice is wrong only if the first result is the midpoint of two float64 numbers.
    away = wide - values
    neighbour = wide + away
    good &= (away == 0) | (neighbour.astype(np.float64) != neighbour)
    return np.where(negative, -values, values), good


def _find(
    marks: NDArray[np.bool_], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where each field has the mark, or its end, and whether it has at most one.

    The fields are in the order of the text.
    """
    at = np.flatnonzero(marks)
    owner = np.searchsorted(start, at, side="right") - 1
    inside = (owner >= 0) & (at < end[owner])
    at, owner = at[inside], owner[inside]
    found = end.copy()
    found[owner] = at
    once = np.ones(len(start), bool)
    once[owner[1:][owner[1:] == owner[:-1]]] = False
    return found, once
