"""Reads the result from the chip's memory into a tensor."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat
from loopnest_hw.format import OPEN_STRIDE, WORD_BYTES

from ..formats import numbers
from ..formats.pack import COMPRESSED, DENSE, MASK, CompressedLevel, decode
from ..formats.tensor import Tensor
from .lower import Kernel, value_bytes

Read = Callable[[int, int], NDArray[np.uint8]]
"""Returns bytes, given their address and number."""


def read_result(
    kernel: Kernel,
    dtype: NumberFormat,
    read: Read,
    levels: Sequence[str],
    mode_order: Sequence[int],
) -> Tensor:
    """Return a kernel's result with these levels, which store the modes in this order."""
    if not kernel.plan.result.compressed:
        return _read_dense(kernel, dtype, read, mode_order)
    return _read_compressed(kernel, dtype, read, levels).convert(levels, mode_order)


def _read_dense(
    kernel: Kernel, dtype: NumberFormat, read: Read, mode_order: Sequence[int]
) -> Tensor:
    plan, result = kernel.plan, kernel.plan.result
    kind = numbers.storage_dtype(dtype, not kernel.narrow)
    nbytes = result.places * value_bytes(dtype, kernel.narrow)
    values = _view(read(kernel.fields["result.values"], nbytes), kind)
    if result.part is not None:
        return _dense(kernel, dtype, values.reshape(result.part.shape), mode_order)
    loops = (*result.fiber_loops, *result.key_loops)
    grid = values
    if result.key_loops:
        # The innermost key may be padded: the step of the key before it gives the padded size.
        widths = _widths(kernel)
        whole = values.reshape([plan.sizes[i] for i in result.fiber_loops] + widths)
        cut = tuple(slice(plan.sizes[i]) for i in loops)
        grid = whole[cut]
    ordered = grid.reshape([plan.sizes[i] for i in loops])
    by_mode = ordered.transpose([loops.index(i) for i in plan.statement.result.indices])
    return _dense(kernel, dtype, by_mode, mode_order)


def _dense(
    kernel: Kernel, dtype: NumberFormat, array: NDArray, mode_order: Sequence[int]
) -> Tensor:
    """Return an array of stored values as a tensor that stores the modes in this order."""
    return Tensor(
        array.shape,
        (DENSE,) * array.ndim,
        [None] * array.ndim,
        np.ascontiguousarray(array.transpose(mode_order)).reshape(-1),
        dtype=dtype,
        wide=not kernel.narrow,
        mode_order=mode_order,
    )


def _read_compressed(
    kernel: Kernel, dtype: NumberFormat, read: Read, levels: Sequence[str]
) -> Tensor:
    """Return a compressed result as the chip writes it, or with these levels if that is not a
    tensor: keys of several indices in one level.
    """
    plan, result = kernel.plan, kernel.plan.result
    fields: Mapping[str, int] = kernel.fields
    table = _view(
        read(fields["result.table"], result.fibers * OPEN_STRIDE * WORD_BYTES), np.dtype(np.uint32)
    )
    first, child, end = (table[k::OPEN_STRIDE].astype(np.int64) for k in range(3))
    blocks = end - first
    words = _fibers(read, fields["result.blocks"], np.dtype(np.uint32), first, blocks)
    counts = np.bitwise_count(words & np.uint32(MASK)).astype(np.int64)
    ends = np.cumsum(blocks)
    before = np.concatenate([[0], np.cumsum(counts)])
    children = before[ends] - before[ends - blocks]
    kind = numbers.storage_dtype(dtype, not kernel.narrow)
    values = _fibers(read, fields["result.values"], kind, child, children)

    # The fibers in the table's order, wherever the chip has written them.
    table = np.zeros((result.fibers, OPEN_STRIDE), np.uint32)
    table[:, 0], table[:, 1], table[:, 2] = ends - blocks, np.cumsum(children) - children, ends
    array = CompressedLevel(table.reshape(-1), words, OPEN_STRIDE)
    wide = not kernel.narrow
    indices = plan.statement.result.indices
    shape = tuple(plan.sizes[i] for i in indices)
    loops = (*result.fiber_loops, *result.key_loops)
    if len(result.key_loops) == 1:
        native = (DENSE,) * len(result.fiber_loops) + (COMPRESSED,)
        arrays = [None] * len(result.fiber_loops) + [array]
        modes = tuple(indices.index(i) for i in loops)
        return Tensor(shape, native, arrays, values, dtype=dtype, wide=wide, mode_order=modes)
    return _split_keys(kernel, dtype, array, values, levels)


def _fibers(
    read: Read, address: int, kind: np.dtype, first: NDArray[np.int64], count: NDArray[np.int64]
) -> NDArray:
    """Return ``count`` items of each fiber, which are in memory from item ``first`` on."""
    some = np.flatnonzero(count)
    order = some[np.argsort(first[some], kind="stable")]
    begin, end = first[order], first[order] + count[order]
    # Fibers that follow each other are read at once.
    gaps = np.flatnonzero(begin[1:] != end[:-1]) + 1
    runs = zip(
        begin[np.concatenate([[0], gaps])] if len(order) else [],
        end[np.concatenate([gaps - 1, [len(order) - 1]])] if len(order) else [],
        strict=True,
    )
    parts = [
        _view(read(address + int(b) * kind.itemsize, int(e - b) * kind.itemsize), kind)
        for b, e in runs
    ]
    items = np.concatenate([np.zeros(0, kind), *parts])
    if (order == some).all():
        return items
    place = np.zeros(len(count), np.int64)
    place[order] = np.cumsum(count[order]) - count[order]
    return items[np.repeat(place - (np.cumsum(count) - count), count) + np.arange(len(items))]


def _split_keys(
    kernel: Kernel,
    dtype: NumberFormat,
    array: CompressedLevel,
    values: NDArray,
    levels: Sequence[str],
) -> Tensor:
    """Return a result whose fibers hold several indices in one key."""
    plan, result = kernel.plan, kernel.plan.result
    flat = (result.fibers, result.span), (DENSE, COMPRESSED), [None, array]
    (fiber, key), position = decode(*flat)
    stored = values[position]
    column: dict[str, NDArray[np.int64]] = {}
    for i in reversed(result.fiber_loops):
        fiber, column[i] = np.divmod(fiber, plan.sizes[i])
    for i, width in zip(reversed(result.key_loops), reversed(_widths(kernel)), strict=True):
        key, column[i] = np.divmod(key, width)
    # A bias also fills the padding.
    inside = np.ones(len(stored), bool)
    for i, coordinates in column.items():
        inside &= coordinates < plan.sizes[i]
    indices = plan.statement.result.indices
    return Tensor.from_stored(
        tuple(plan.sizes[i] for i in indices),
        levels,
        [column[i][inside] for i in indices],
        stored[inside],
        dtype=dtype,
        wide=not kernel.narrow,
    )


def _widths(kernel: Kernel) -> list[int]:
    """Return the key loops' sizes in the result fiber, with the innermost one padded."""
    result = kernel.plan.result
    widths = [kernel.plan.sizes[i] for i in result.key_loops]
    if len(widths) > 1:
        widths[-1] = result.modes[result.key_loops[-2]][1]
    return widths


def _view(raw: NDArray[np.uint8], kind: np.dtype) -> NDArray:
    return np.ascontiguousarray(raw).view(kind)
