"""Views, slices and concatenations."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from .builder import Builder, shape_of
from .elementwise import dtype_of, where
from .table import aten
from .traced import Traced


@aten(
    "view.default",
    "_unsafe_view.default",
    "reshape.default",
    "flatten.using_ints",
    "unflatten.int",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze.default",
)
def _reshape(b: Builder, node: fx.Node, x: Traced, *unused: Any) -> Traced:
    return b.reshape(x, shape_of(node.meta["val"]))


@aten("permute.default")
def _permute(b: Builder, node: fx.Node, x: Traced, dims: Sequence[int]) -> Traced:
    return b.transpose(x, [x.axis(d) for d in dims])


@aten("transpose.int")
def _transpose(b: Builder, node: fx.Node, x: Traced, first: int, second: int) -> Traced:
    axes = list(range(x.ndim))
    i, j = x.axis(first), x.axis(second)
    axes[i], axes[j] = j, i
    return b.transpose(x, axes)


@aten("t.default", "numpy_T.default")
def _t(b: Builder, node: fx.Node, x: Traced) -> Traced:
    return b.transpose(x, range(x.ndim)[::-1])


@aten("mT.default")
def _mt(b: Builder, node: fx.Node, x: Traced) -> Traced:
    return b.swap(x)


@aten("expand.default")
def _expand(b: Builder, node: fx.Node, x: Traced, *unused: Any, **unused_too: Any) -> Traced:
    return b.broadcast(x, shape_of(node.meta["val"]))


@aten("repeat.default")
def _repeat(b: Builder, node: fx.Node, x: Traced, times: Sequence[int]) -> Traced:
    shape = (1,) * (len(times) - x.ndim) + x.shape
    spread = [n for size in shape for n in (1, size)]
    repeated = [n for count, size in zip(times, shape, strict=True) for n in (count, size)]
    found = b.broadcast(b.reshape(x, spread), repeated)
    return b.reshape(found, shape_of(node.meta["val"]))


@aten("repeat_interleave.self_int")
def _repeat_interleave(
    b: Builder, node: fx.Node, x: Traced, times: int, dim: int | None = None, **unused: Any
) -> Traced:
    axis = 0 if dim is None else x.axis(dim)
    x = b.reshape(x, (prod(x.shape),)) if dim is None else x
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    found = b.reshape(x, (*before, size, 1, *after))
    found = b.broadcast(found, (*before, size, times, *after))
    return b.reshape(found, (*before, size * times, *after))


@aten("tril.default")
def _tril(b: Builder, node: fx.Node, x: Traced, diagonal: int = 0) -> Traced:
    kept = b.known(np.tri(x.shape[-2], x.shape[-1], diagonal, dtype=bool), torch.bool)
    return where(b, kept, x, 0)


@aten("triu.default")
def _triu(b: Builder, node: fx.Node, x: Traced, diagonal: int = 0) -> Traced:
    kept = b.known(~np.tri(x.shape[-2], x.shape[-1], diagonal - 1, dtype=bool), torch.bool)
    return where(b, kept, x, 0)


def _bounds(size: int, start: int | None, stop: int | None) -> tuple[int, int]:
    """Return the bounds of a slice within an axis."""
    first, last, _ = slice(start, stop).indices(size)
    return first, max(first, last)


@aten("slice.Tensor")
def _slice(
    b: Builder,
    node: fx.Node,
    x: Traced,
    dim: int = 0,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
) -> Traced:
    axis = x.axis(dim)
    return b.slice(x, axis, *_bounds(x.shape[axis], start, stop), step)


@aten("narrow.default")
def _narrow(b: Builder, node: fx.Node, x: Traced, dim: int, start: int, length: int) -> Traced:
    axis = x.axis(dim)
    start %= max(x.shape[axis], 1)
    return b.slice(x, axis, start, start + length)


@aten("select.int")
def _select(b: Builder, node: fx.Node, x: Traced, dim: int, index: int) -> Traced:
    axis = x.axis(dim)
    index %= x.shape[axis]
    return b.reshape(b.slice(x, axis, index, index + 1), x.shape[:axis] + x.shape[axis + 1 :])


@aten("split_with_sizes.default")
def _split_with_sizes(
    b: Builder, node: fx.Node, x: Traced, sizes: Sequence[int], dim: int = 0
) -> tuple[Traced, ...]:
    axis = x.axis(dim)
    stops = np.cumsum(sizes).tolist()
    return tuple(
        b.slice(x, axis, stop - size, stop) for size, stop in zip(sizes, stops, strict=True)
    )


@aten("split.Tensor")
def _split(b: Builder, node: fx.Node, x: Traced, size: int, dim: int = 0) -> tuple[Traced, ...]:
    axis = x.axis(dim)
    starts = range(0, x.shape[axis], size)
    return tuple(b.slice(x, axis, s, min(s + size, x.shape[axis])) for s in starts)


@aten("chunk.default")
def _chunk(b: Builder, node: fx.Node, x: Traced, count: int, dim: int = 0) -> tuple[Traced, ...]:
    return _split(b, node, x, -(-x.shape[x.axis(dim)] // count), dim)


@aten("unbind.int")
def _unbind(b: Builder, node: fx.Node, x: Traced, dim: int = 0) -> tuple[Traced, ...]:
    return tuple(_select(b, node, x, dim, n) for n in range(x.shape[x.axis(dim)]))


@aten("cat.default")
def _cat(b: Builder, node: fx.Node, tensors: Sequence[Traced], dim: int = 0) -> Traced:
    shape = shape_of(node.meta["val"])
    # PyTorch ignores empty tensors of one dimension
    tensors = [b.cast(t, dtype_of(node)) for t in tensors if t.ndim == len(shape)]
    return b.concat(tensors, dim % len(shape))


@aten("stack.default")
def _stack(b: Builder, node: fx.Node, tensors: Sequence[Traced], dim: int = 0) -> Traced:
    axis = dim % (tensors[0].ndim + 1)
    apart = [b.reshape(t, (*t.shape[:axis], 1, *t.shape[axis:])) for t in tensors]
    return _cat(b, node, apart, axis)


@aten("constant_pad_nd.default")
def _pad(b: Builder, node: fx.Node, x: Traced, padding: Sequence[int], value: float = 0) -> Traced:
    pairs = [(before, after) for before, after in zip(padding[::2], padding[1::2], strict=True)]
    return b.pad(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1], value)


@aten("flip.default")
def _flip(b: Builder, node: fx.Node, x: Traced, dims: Sequence[int]) -> Traced:
    for dim in dims:
        axis = x.axis(dim)
        x = _gather(b, x, b.known(np.arange(x.shape[axis])[::-1], torch.int64), axis)
    return x


@aten("roll.default")
def _roll(
    b: Builder, node: fx.Node, x: Traced, shifts: Sequence[int], dims: Sequence[int] = ()
) -> Any:
    if not dims:
        return NotImplemented
    for shift, dim in zip(shifts, dims, strict=True):
        axis = x.axis(dim)
        size = x.shape[axis]
        split = (size - shift) % max(size, 1)
        x = b.concat([b.slice(x, axis, split, size), b.slice(x, axis, 0, split)], axis)
    return x


@aten("slice_scatter.default")
def _slice_scatter(
    b: Builder,
    node: fx.Node,
    x: Traced,
    source: Traced,
    dim: int = 0,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
) -> Any:
    if step != 1:
        return NotImplemented
    axis = x.axis(dim)
    return _inserted(b, x, source, axis, *_bounds(x.shape[axis], start, stop))


@aten("select_scatter.default")
def _select_scatter(
    b: Builder, node: fx.Node, x: Traced, source: Traced, dim: int, index: int
) -> Traced:
    axis = x.axis(dim)
    index %= x.shape[axis]
    source = b.reshape(source, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return _inserted(b, x, source, axis, index, index + 1)


def _inserted(b: Builder, x: Traced, source: Traced, axis: int, start: int, stop: int) -> Traced:
    """Return a tensor with a slice replaced."""
    before, after = b.slice(x, axis, 0, start), b.slice(x, axis, stop, x.shape[axis])
    return b.concat([before, b.cast(source, x.dtype), after], axis)


@aten("copy.default")
def _copy(b: Builder, node: fx.Node, x: Traced, source: Traced, *unused: Any) -> Traced:
    return b.broadcast(b.cast(source, x.dtype), x.shape)


@aten("index_select.default")
def _index_select(b: Builder, node: fx.Node, x: Traced, dim: int, indices: Traced) -> Traced:
    return _gather(b, x, indices, x.axis(dim))


@aten("index.Tensor", "_unsafe_index.Tensor")
def _index(b: Builder, node: fx.Node, x: Traced, indices: Sequence[Traced | None]) -> Any:
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(given) != 1 or given[0][1].dtype in (torch.bool, torch.uint8):
        return NotImplemented
    axis, index = given[0]
    return _gather(b, x, index, axis)


def _gather(b: Builder, x: Traced, indices: Traced, axis: int) -> Traced:
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return b.emit("gather", [x, indices], shape, x.dtype, axis=axis)


@aten("gather.default")
def _take_along(
    b: Builder, node: fx.Node, x: Traced, dim: int, places: Traced, **unused: Any
) -> Any:
    if not x.ndim or not places.ndim:
        return NotImplemented
    return b.emit("take_along", [x, places], places.shape, x.dtype, axis=x.axis(dim))


@aten("scatter.src")
def _scatter(b: Builder, node: fx.Node, x: Traced, dim: int, places: Traced, source: Traced) -> Any:
    if not x.ndim or places.shape != source.shape:
        return NotImplemented
    return b.emit("scatter", [x, places, source], x.shape, x.dtype, axis=x.axis(dim))
