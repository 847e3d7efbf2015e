"""The epilogue: operations on a finished result in the chip.

    int8: clamp(relu(threshold(round_half_even((sum + bias) * multiplier / 2^shift))))
    bf16: clamp(relu(threshold((sum + bias) * scale))), in fp32

then conversion to the output type, wide or narrow (saturated, or rounded to nearest even). Zeros
are not stored. An int8 chip multiplies by integers: a scale becomes ``multiplier / 2^shift``, with
the largest shift up to 62 at which every multiplier is below 2^31. So a scale keeps 31 significant
bits (less for one far smaller than the largest of an array), and a power of two or an integer is
exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loopnest_hw.config import ChipConfig, NumberFormat

from .arguments import flag, sequence
from .formats.numbers import is_real, to_float64, warn_beyond
from .formats.sources import dense_array, from_library
from .loops.plan import Plan

MAX_SHIFT = 62
MULTIPLIER_BITS = 31

SCALAR, FIBER, COORDINATE = range(3)
"""Values of the descriptor's bias_mode and scale_mode."""


@dataclass(frozen=True, kw_only=True)
class Epilogue:
    """Bias, scale and the rest, applied to every result in the order of the fields.

    Parameters
    ----------
    bias : array_like, optional
        Added to the sum: a number, or an array that broadcasts to the result's shape and varies
        along its fibers or within them, not both. Integers on an int8 chip.
    scale : array_like, optional
        Factor, of the same form as ``bias``; any real numbers (for an int8 chip, see the module's
        docstring).
    threshold : float, optional
        Values of smaller magnitude become 0.
    relu : bool
        Negative values become 0.
    clamp : tuple of (low, high), optional
        Bounds; either may be None.
    out : str
        ``"wide"`` (fp32 or int32), or ``"narrow"`` (bf16 or int8): the next layer's input.

    Raises
    ------
    ValueError
        For an unknown ``out``, a negative threshold, a clamp whose low bound exceeds the high one,
        or a bias or scale that is not an array of real numbers.
    TypeError
        For a ``relu`` that is not a bool, or a threshold or bounds that are not numbers.
    """

    bias: ArrayLike | None = None
    scale: ArrayLike | None = None
    threshold: float = 0
    relu: bool = False
    clamp: tuple[float | None, float | None] | None = None
    out: str = "wide"

    def __post_init__(self) -> None:
        if self.out not in ("wide", "narrow"):
            raise ValueError(f"out={self.out!r}: expected wide or narrow")
        flag("relu", self.relu)
        for name in ("bias", "scale", "threshold", "clamp"):
            self._convert(name)
        for name in ("bias", "scale"):
            _check_numbers(name, getattr(self, name))
        if not _is_number(self.threshold):
            raise TypeError(f"threshold={self.threshold!r}: expected a number")
        if not self.threshold >= 0:
            raise ValueError(f"threshold={self.threshold!r}: expected 0 or more")
        if self.clamp is not None:
            bounds = sequence("clamp", self.clamp, "(low, high)")
            if len(bounds) != 2:
                raise ValueError(f"clamp={self.clamp!r}: expected (low, high)")
            if not all(bound is None or _is_number(bound) for bound in bounds):
                raise TypeError(f"clamp={self.clamp!r}: expected numbers or None")
            low, high = (
                default if bound is None else bound
                for bound, default in zip(bounds, (-np.inf, np.inf), strict=True)
            )
            if not low <= high:
                raise ValueError(f"clamp={self.clamp!r}: expected low <= high")

    def _convert(self, name: str) -> None:
        """Convert numbers of other libraries to NumPy's."""
        value = getattr(self, name)
        try:
            if name == "clamp" and isinstance(value, tuple | list):
                found: Any = tuple(from_library(bound) for bound in value)
            else:
                found = from_library(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
        object.__setattr__(self, name, found)

    @property
    def narrow(self) -> bool:
        """Whether results are narrow."""
        return self.out == "narrow"

    @property
    def keeps_zero(self) -> bool:
        """Whether a 0 stays 0, so that untouched coordinates need not be visited: there is no bias,
        or what it makes of a 0 is negative everywhere and becomes 0 (by ``relu``, or a lower bound
        of 0).
        """
        low, high = self.clamp or (None, None)
        if (low is not None and low > 0) or (high is not None and high < 0):
            return False
        bias = np.asarray(0.0 if self.bias is None else self.bias, np.float64)
        scale = np.asarray(1.0 if self.scale is None else self.scale, np.float64)
        if not np.any(bias):
            return True
        never_positive = (np.all(bias <= 0) and np.all(scale >= 0)) or (
            np.all(bias >= 0) and np.all(scale <= 0)
        )
        finite = np.all(np.isfinite(bias)) and np.all(np.isfinite(scale))
        return bool(finite and never_positive and (self.relu or low == 0))

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """Return what the results lie between, of sums that lie between these."""
        if self.bias is not None:
            bias = np.asarray(self.bias, np.float64)
            low, high = low + np.min(bias, initial=0), high + np.max(bias, initial=0)
        if self.scale is not None:
            scale = np.max(np.abs(np.asarray(self.scale, np.float64)), initial=0)
            largest = float(scale * max(-low, high, 0.0))
            positive = low >= 0 and np.min(np.asarray(self.scale), initial=0) >= 0
            low, high = (0.0 if positive else -largest), largest
        if self.relu:
            low, high = max(low, 0.0), max(high, 0.0)
        if self.clamp is not None:
            least, most = self.clamp
            low = low if least is None else float(np.clip(low, least, most))
            high = high if most is None else float(np.clip(high, least, most))
        # a threshold makes 0 of what is near it
        return min(low, 0.0), max(high, 0.0)

    def part(self, shape: Sequence[int], axis: int, start: int, stop: int) -> "Epilogue":
        """Return the epilogue of the coordinates from start to stop along an axis of a result.

        Raises
        ------
        ValueError
            If an array does not broadcast to the result's shape.
        """

        def along(name: str) -> ArrayLike | None:
            value = getattr(self, name)
            if value is None or not np.ndim(value):
                return value  # type: ignore[no-any-return]
            array = _broadcastable(name, np.asarray(value), shape)
            if array.shape[axis] == 1:
                return array
            return array[(slice(None),) * axis + (slice(start, stop),)]

        return replace(self, bias=along("bias"), scale=along("scale"))

    @property
    def reads_memory(self) -> bool:
        """Whether there is a bias or a scale that is not a single number."""
        return any(x is not None and np.ndim(x) > 0 for x in (self.bias, self.scale))


def keeps_zero(epilogue: Epilogue | None, zero: float) -> bool:
    """Return whether coordinates without a term need not be visited, where a sum without terms is
    ``zero``.
    """
    return epilogue is None or (epilogue.keeps_zero and zero == 0)


def check_epilogue(epilogue: Any) -> None:
    """Raise TypeError for anything but an `Epilogue` or None."""
    if not (epilogue is None or isinstance(epilogue, Epilogue)):
        raise TypeError(f"epilogue={epilogue!r}: expected an Epilogue or None")


def _check_numbers(name: str, value: Any) -> None:
    """Refuse a bias or scale that is not None or an array of real numbers."""
    if value is None:
        return
    try:
        array = dense_array(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not is_real(array.dtype):
        kind = array.dtype if array.dtype.kind == "c" else type(value).__name__
        raise ValueError(f"{name} of type {kind}: expected real numbers")


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and is_real(np.asarray(value).dtype)


def lower_epilogue(
    config: ChipConfig, epilogue: Epilogue, plan: Plan, put: Callable[[NDArray], int]
) -> dict[str, int]:
    """Return the epilogue's descriptor fields; ``put`` places an array and returns its address.

    Raises
    ------
    ValueError
        For numbers that the chip cannot represent, or a shape that does not broadcast.
    """
    integer = config.dtype is NumberFormat.INT8
    fields: dict[str, int] = {"epilogue.enable": 1, "epilogue.relu": int(epilogue.relu)}
    bias = np.asarray(0 if epilogue.bias is None else epilogue.bias)
    words = _int32("bias", bias) if integer else _fp32("bias", bias)
    fields |= _place("bias", words, plan, put)
    scale = np.asarray(1 if epilogue.scale is None else epilogue.scale)
    if integer:
        words, fields["epilogue.shift"] = multipliers(scale)
    else:
        words = _fp32("scale", scale)
    fields |= _place("scale", words, plan, put)
    low, high = epilogue.clamp or (None, None)
    limits = np.iinfo(np.int32)
    for name, value, default in (
        ("low", low, limits.min if integer else -np.inf),
        ("high", high, limits.max if integer else np.inf),
        ("threshold", epilogue.threshold, 0),
    ):
        number = np.asarray(default if value is None else value)
        word = _int32(name, number) if integer else _fp32(name, number)
        fields[f"epilogue.{name}"] = int(word)
    return fields


def multipliers(scale: NDArray[Any]) -> tuple[NDArray[np.uint32], int]:
    """Return an int8 chip's multipliers (two's complement) and their shift.

    Raises
    ------
    ValueError
        For a scale that is not finite, or at least 2^31.
    """
    exact = to_float64(scale)
    largest = float(np.max(np.abs(exact), initial=0.0))
    if not largest < 2.0**MULTIPLIER_BITS:
        raise ValueError(f"scale={largest}: expected finite numbers below 2^{MULTIPLIER_BITS}")
    shift = MAX_SHIFT
    while np.max(np.abs(np.rint(exact * 2.0**shift)), initial=0.0) >= 2.0**MULTIPLIER_BITS:
        shift -= 1
    return np.rint(exact * 2.0**shift).astype(np.int32).view(np.uint32), shift


def _int32(name: str, values: NDArray[Any]) -> NDArray[np.uint32]:
    limits = np.iinfo(np.int32)
    good = (values >= limits.min) & (values <= limits.max)
    if values.dtype.kind == "f":
        good &= values == np.floor(values)
    if not np.all(good):
        bad = values.reshape(-1)[int(np.argmin(good))]
        raise ValueError(f"{name}={bad}: expected a 32-bit integer on an int8 chip")
    return values.astype(np.int32).view(np.uint32)


def _fp32(name: str, values: NDArray[Any]) -> NDArray[np.uint32]:
    warn_beyond(values, True, lambda k: np.unravel_index(k, values.shape), name)
    with np.errstate(over="ignore"):
        return values.astype(np.float32).view(np.uint32)


def _broadcastable(name: str, array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return an array with as many axes as a result of this shape, to which it broadcasts."""
    padded = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if array.ndim > len(shape) or any(
        n not in (1, size) for n, size in zip(padded.shape, shape, strict=True)
    ):
        raise ValueError(
            f"{name} of shape {array.shape}: expected one that broadcasts to {tuple(shape)}"
        )
    return padded


def _place(
    name: str, words: NDArray[np.uint32], plan: Plan, put: Callable[[NDArray], int]
) -> dict[str, int]:
    """Return the fields of a bias or scale: one value, an array by fiber, or by coordinate."""
    result, indices = plan.result, plan.statement.result.indices
    shape = tuple(plan.sizes[i] for i in indices)
    padded = _broadcastable(name, words, shape)
    if 0 in shape:  # no element uses it, so it need not be in memory
        return {f"epilogue.{name}_mode": SCALAR, f"epilogue.{name}_value": 0}
    varies = [i for i, n in zip(indices, padded.shape, strict=True) if n != 1]
    if not varies:
        return {
            f"epilogue.{name}_mode": SCALAR,
            f"epilogue.{name}_value": int(words.reshape(-1)[0]),
        }
    if set(varies) <= set(result.key_loops):
        mode, loops, length = COORDINATE, result.key_loops, result.span
    elif set(varies) <= set(result.fiber_loops):
        mode, loops, length = FIBER, result.fiber_loops, result.fibers * result.fiber_step
    else:
        raise ValueError(
            f"{name} varies along {','.join(varies)}: with the loops {''.join(plan.loops)}, one "
            f"that varies along {','.join(result.fiber_loops) or 'nothing'} or along "
            f"{','.join(result.key_loops) or 'nothing'} is expected"
        )
    # The chip reads word `fiber` or word `key`: each index adds its step to that.
    at = np.zeros((1,) * len(shape), np.int64)
    for axis, index in enumerate(indices):
        if index in loops:
            along = np.arange(plan.sizes[index]) * result.modes[index][1]
            at = at + along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    laid = np.zeros(length, np.uint32)
    laid[at.reshape(-1)] = np.broadcast_to(padded, at.shape).reshape(-1)
    return {f"epilogue.{name}_mode": mode, f"epilogue.{name}": put(laid)}
