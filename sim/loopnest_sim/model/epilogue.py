"""The epilogue (hw result/epilogue.py, int8_lane.py, bf16_lane.py)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import ADDRESS_BITS, LANES, WIDE_BITS, NumberFormat
from loopnest_hw.descriptor import Output
from loopnest_hw.format import WORD_BYTES

from ..image import Image
from .arith import Wide, add, multiply, to_bf16, widen
from .blocks import Blocks
from .watch import Watch

VALUE, FIBER, COORDINATE = range(3)
"""The descriptor's bias_mode and scale_mode."""


def epilogue(
    blocks: Blocks,
    kernel: Mapping[str, int],
    fmt: NumberFormat,
    image: Image,
    watch: Watch | None = None,
) -> tuple[Blocks, bool]:
    """Apply a kernel descriptor's epilogue; biases and scales are read from ``image``.

    Returns
    -------
    blocks : Blocks
        Without lanes that became 0, and without blocks that have no lanes left, except a fiber's
        last. A narrow value is in the low bits.
    overflow : bool
        int8: the sum of a value and its bias does not fit int32.
    """
    if not kernel["epilogue.enable"]:
        return blocks, False
    rows, lanes = np.nonzero(blocks.lanes)
    fiber = blocks.fiber[rows]
    key = LANES * blocks.coordinate[rows] + lanes

    def factor(name: str) -> Wide:
        mode = kernel[f"epilogue.{name}_mode"]
        if mode == VALUE:
            raw = np.full(len(rows), kernel[f"epilogue.{name}_value"], np.uint32)
        else:
            index = fiber if mode == FIBER else key
            address = kernel[f"epilogue.{name}"] + WORD_BYTES * index
            address %= 1 << ADDRESS_BITS
            if watch is not None:
                watch.epilogue(address)
            raw = image.gather(address, np.uint32)
        return widen(raw, fmt, wide=True)

    bits, zero, overflow = finish(
        widen(blocks.value[rows, lanes], fmt, wide=True),
        factor("bias"),
        factor("scale"),
        kernel,
        fmt,
    )
    value = np.zeros_like(blocks.value)
    value[rows, lanes] = np.where(zero, np.uint32(0), bits)
    mask = np.zeros(len(blocks), np.int64)
    np.bitwise_or.at(mask, rows[~zero], 1 << lanes[~zero])
    done = Blocks(blocks.coordinate, mask, value, blocks.fiber, blocks.last, blocks.final)
    return done[(mask != 0) | blocks.last], bool(overflow.any())


def finish(
    x: Wide, bias: Wide, scale: Wide, kernel: Mapping[str, int], fmt: NumberFormat
) -> tuple[NDArray[np.uint32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Apply the epilogue's arithmetic to wide values, each with its bias and its scale.

    Returns
    -------
    bits : uint32
        A narrow value is in the low bits.
    zero : bool
        The output is 0 or -0.
    overflow : bool
        int8: the sum of the value and its bias does not fit int32.
    """
    bounds = {
        name: widen(np.array([kernel[f"epilogue.{name}"]], np.uint32), fmt, wide=True)[0]
        for name in ("low", "high", "threshold")
    }
    total, overflow = add(x, bias, fmt)
    if fmt is NumberFormat.INT8:
        x = _requantised(total, scale, kernel["epilogue.shift"])
        magnitude = np.abs(x.astype(np.int64))
    else:
        x, _ = multiply(total, scale, fmt)
        magnitude = np.abs(x)
    # comparisons with a NaN are false
    x = np.where(magnitude < bounds["threshold"], x.dtype.type(0), x)
    if kernel["epilogue.relu"]:
        x = np.where(x < 0, x.dtype.type(0), x)
    bottom = bounds["high"] if bounds["low"] > bounds["high"] else bounds["low"]
    above = np.where(x > bounds["high"], bounds["high"], x)
    x = np.where(x < bounds["low"], bottom, above)
    bits, zero = _output(x, fmt, kernel["result.output"] == Output.NARROW)
    return bits, zero, overflow


def _requantised(total: Wide, scale: Wide, shift: int) -> NDArray[np.int32]:
    """Return ``total * scale / 2^shift``, rounded half to even and saturated."""
    product = total.astype(np.int64) * scale.astype(np.int64)
    quotient = product >> shift
    rest = (product - (quotient << shift)).view(np.uint64)
    half = np.uint64(1 << shift >> 1)
    if shift:
        up = (rest > half) | ((rest == half) & (quotient & 1).astype(np.bool_))
        quotient = quotient + up
    limits = np.iinfo(np.int32)
    return np.clip(quotient, limits.min, limits.max).astype(np.int32)


def _output(x: Wide, fmt: NumberFormat, narrow: bool) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the bits of the output, and which are 0."""
    if fmt is NumberFormat.INT8:
        if narrow:
            x = np.clip(x, -128, 127)
            return x.astype(np.uint8).astype(np.uint32), x == 0
        return x.view(np.uint32), x == 0
    bits = to_bf16(x).astype(np.uint32) if narrow else x.astype(np.float32).view(np.uint32)
    sign = np.uint32(1 << (fmt.narrow_bits if narrow else WIDE_BITS) - 1)
    return bits, (bits & ~sign) == 0
