"""Operators that rearrange elements, and those that make shapes and constants."""

from collections.abc import Sequence
from math import prod

import numpy as np

from .builder import Builder, Value
from .elementwise import cast_to, onnx_dtype
from .node import OnnxNode, converts, from_front
from .products import padded, sliced

INT64 = np.dtype(np.int64)


def reshaped(builder: Builder, x: Value, shape: Sequence[int]) -> Value:
    """Emit a reshape, if the shape is another."""
    shape = tuple(int(n) for n in shape)
    return x if shape == x.shape else builder.emit("reshape", x, shape=shape)


@converts("Reshape")
def reshape(builder: Builder, node: OnnxNode) -> Value:
    """Another shape: 0 keeps a dimension (unless ``allowzero``), -1 is what remains."""
    x = node.input()
    shape = node.numbers("shape", 1)
    if shape is None:
        raise ValueError("no shape: expected an input or an attribute")
    if not node.attribute("allowzero", 0):
        shape = [x.shape[n] if size == 0 else size for n, size in enumerate(shape)]
    if -1 in shape:
        others = prod(n for n in shape if n != -1)
        count = prod(x.shape)
        if shape.count(-1) > 1 or others == 0 or count % others:
            raise ValueError(f"{x.shape} as {tuple(shape)}: expected {count} elements")
        shape[shape.index(-1)] = count // others
    return reshaped(builder, x, shape)


@converts("Flatten")
def flatten(builder: Builder, node: OnnxNode) -> Value:
    """A matrix: the axes before ``axis``, and the others."""
    x = node.input()
    axis = int(node.attribute("axis", 1))
    axis += x.ndim if axis < 0 else 0
    return reshaped(builder, x, (prod(x.shape[:axis]), prod(x.shape[axis:])))


@converts("Squeeze")
def squeeze(builder: Builder, node: OnnxNode) -> Value:
    """Without axes of size 1."""
    x = node.input()
    given = node.numbers("axes", 1)
    if given is None:
        given = [n for n, size in enumerate(x.shape) if size == 1]
    axes = [from_front(n, x.ndim) for n in given]
    for axis in axes:
        if x.shape[axis] != 1:
            raise ValueError(f"axis {axis} of {x.shape}: expected size 1")
    return reshaped(builder, x, [n for axis, n in enumerate(x.shape) if axis not in axes])


@converts("Unsqueeze")
def unsqueeze(builder: Builder, node: OnnxNode) -> Value:
    """With more axes of size 1."""
    x = node.input()
    given = node.numbers("axes", 1) or []
    rank = x.ndim + len(given)
    axes = {from_front(n, rank) for n in given}
    sizes = iter(x.shape)
    return reshaped(builder, x, [1 if n in axes else next(sizes) for n in range(rank)])


@converts("Transpose")
def transpose(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.transpose`."""
    x = node.input()
    axes = tuple(int(n) for n in node.attribute("perm", range(x.ndim)[::-1]))
    return x if axes == tuple(range(x.ndim)) else builder.emit("transpose", x, axes=axes)


@converts("Slice")
def slice_(builder: Builder, node: OnnxNode) -> Value:
    """``x[start:stop:step]`` along axes; backwards, rows in the reverse order."""
    x = node.input()
    starts, stops = node.numbers("starts", 1), node.numbers("ends", 2)
    if starts is None or stops is None:
        raise ValueError("no starts or ends: expected them as inputs or attributes")
    axes = node.numbers("axes", 3) or list(range(len(starts)))
    steps = node.numbers("steps", 4) or [1] * len(starts)
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        axis = from_front(axis, x.ndim)
        found = range(*slice(start, stop, step).indices(x.shape[axis]))
        if step > 0:
            x = sliced(builder, x, axis, found.start, max(found.start, found.stop), step)
        else:
            x = taken(builder, x, np.array(found, np.int64), axis)
    return x


@converts("Split")
def split(builder: Builder, node: OnnxNode) -> list[Value]:
    """Parts along an axis."""
    x = node.input()
    axis = node.axis(0, x.ndim)
    size, parts = x.shape[axis], len(node.outputs)
    sizes = node.numbers("split", 1)
    if sizes is None:
        each = -(-size // int(node.attribute("num_outputs", parts)))
        sizes = [min(each, size - at * each) for at in range(parts)]
    if sum(sizes) != size or len(sizes) != parts:
        raise ValueError(f"split = {sizes} of {size} for {parts} outputs: expected that sum")
    ends = np.cumsum(sizes).tolist()
    return [sliced(builder, x, axis, end - n, end) for n, end in zip(sizes, ends, strict=True)]


@converts("Concat")
def concat(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.concatenate`."""
    tensors = node.values()
    axis = node.axis(1, tensors[0].ndim)
    return tensors[0] if len(tensors) == 1 else builder.emit("concat", *tensors, axis=axis)


@converts("Pad")
def pad(builder: Builder, node: OnnxNode) -> Value:
    """Padding with a number, or with the tensor's own elements; where negative, without some."""
    x = node.input()
    name = "paddings" if "paddings" in node.attributes else "pads"
    flat = node.numbers(name, 1)
    if flat is None:
        raise ValueError("no pads: expected them as an input or an attribute")
    given = node.numbers("axes", 3)
    axes = [from_front(n, x.ndim) for n in (range(x.ndim) if given is None else given)]
    if len(flat) != 2 * len(axes):
        raise ValueError(f"pads = {flat}: expected {2 * len(axes)} numbers")
    padding = [(0, 0)] * x.ndim
    for n, axis in enumerate(axes):
        padding[axis] = (flat[n], flat[n + len(axes)])
    node.refuse("mode", "constant", "reflect", "edge", "wrap")
    mode = node.attribute("mode", "constant")
    if mode == "constant":
        value = node.attribute("value", 0.0)
        if node.optional(2) is not None:
            value = node.known(2, "the value").item()
        return padded(builder, x, padding, x.dtype.type(value).item())
    for axis, (before, after) in enumerate(padding):
        if (before, after) != (0, 0):
            rows = np.arange(x.shape[axis])[max(0, -before) : x.shape[axis] + min(0, after)]
            around = (max(0, before), max(0, after))
            x = taken(builder, x, np.pad(rows, around, mode=mode), axis)
    return x


def taken(builder: Builder, x: Value, rows: np.ndarray, axis: int) -> Value:
    """Emit a selection of known rows along an axis: a slice, where they follow each other."""
    if rows.ndim == 1 and len(rows) and rows[0] >= 0 and np.all(np.diff(rows) == 1):
        return sliced(builder, x, axis, int(rows[0]), int(rows[-1]) + 1)
    return builder.emit("gather", x, builder.known(rows), axis=axis)


@converts("Gather")
def gather(builder: Builder, node: OnnxNode) -> Value:
    """Rows along an axis: of a known table, an embedding."""
    x, indices = node.values()
    axis = node.axis(0, x.ndim)
    if not indices.known:
        if x.known and x.ndim == 2 and axis == 0 and x.dtype.kind == "f":
            return builder.emit("embedding", indices, x, wraps=True)
        return builder.emit("gather", x, indices, axis=axis)
    rows = indices.array.astype(np.int64)
    if rows.size and not -x.shape[axis] <= rows.min() <= rows.max() < x.shape[axis]:
        raise ValueError(f"index {rows.max()}: expected less than {x.shape[axis]}")
    rows = np.where(rows < 0, rows + x.shape[axis], rows)
    if x.known:
        return builder.emit("gather", x, builder.known(rows), axis=axis)
    found = taken(builder, x, rows.reshape(-1), axis)
    return reshaped(builder, found, (*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :]))


@converts("GatherND")
def gather_nd(builder: Builder, node: OnnxNode) -> Value:
    """Elements or rows at positions of several axes."""
    x, indices = node.values()
    batch = int(node.attribute("batch_dims", 0))
    return builder.emit("gather_nd", x, indices, batch_axes=batch)


@converts("GatherElements")
def gather_elements(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.take_along_axis`."""
    x, indices = node.values()
    return builder.emit("take_along", x, indices, axis=node.axis(0, x.ndim))


@converts("ScatterElements", "Scatter")
def scatter_elements(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.put_along_axis`."""
    node.refuse("reduction", "none")
    x, indices, updates = node.values()
    return builder.emit("scatter", x, indices, updates, axis=node.axis(0, x.ndim))


@converts("Expand")
def expand(builder: Builder, node: OnnxNode) -> Value:
    """The shape of broadcasting with a shape."""
    x = node.input()
    shape = np.broadcast_shapes(x.shape, tuple(int(n) for n in node.known(1, "the shape")))
    return x if shape == x.shape else builder.emit("broadcast", x, shape=shape)


@converts("Tile")
def tile(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.tile`: broadcast along new axes."""
    x = node.input()
    repeats = [int(n) for n in node.known(1, "repeats")]
    if len(repeats) != x.ndim:
        raise ValueError(f"repeats = {repeats}: expected {x.ndim} numbers")
    apart = [size for n in x.shape for size in (1, n)]
    wide = [size for n, r in zip(x.shape, repeats, strict=True) for size in (r, n)]
    if apart == wide:
        return x
    found = builder.emit("broadcast", reshaped(builder, x, apart), shape=tuple(wide))
    return reshaped(builder, found, [n * r for n, r in zip(x.shape, repeats, strict=True)])


@converts("DepthToSpace")
def depth_to_space(builder: Builder, node: OnnxNode) -> Value:
    """Channels moved into blocks of pixels."""
    x = node.input()
    batch, channels, high, wide = x.shape
    block = int(node.attribute("blocksize", 1))
    node.refuse("mode", "DCR", "CRD")
    depth = channels // block**2
    if node.attribute("mode", "DCR") == "DCR":
        parts, axes = (batch, block, block, depth, high, wide), (0, 3, 4, 1, 5, 2)
    else:
        parts, axes = (batch, depth, block, block, high, wide), (0, 1, 4, 2, 5, 3)
    found = builder.emit("transpose", reshaped(builder, x, parts), axes=axes)
    return reshaped(builder, found, (batch, depth, high * block, wide * block))


@converts("SpaceToDepth")
def space_to_depth(builder: Builder, node: OnnxNode) -> Value:
    """Blocks of pixels moved into channels."""
    x = node.input()
    batch, channels, high, wide = x.shape
    block = int(node.attribute("blocksize", 1))
    parts = (batch, channels, high // block, block, wide // block, block)
    found = builder.emit("transpose", reshaped(builder, x, parts), axes=(0, 3, 5, 1, 2, 4))
    return reshaped(builder, found, (batch, channels * block**2, high // block, wide // block))


@converts("Trilu")
def trilu(builder: Builder, node: OnnxNode) -> Value:
    """The upper or lower triangle of matrices."""
    x = node.input()
    k = int(node.known(1, "k").item()) if node.optional(1) is not None else 0
    triangle = np.triu if node.attribute("upper", 1) else np.tril
    inside = triangle(np.ones(x.shape[-2:], bool), k)
    return builder.emit("where", builder.known(inside), x, builder.like(0, x))


@converts("CumSum")
def cumsum(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.cumsum`; backwards and without the element itself, if it is so asked."""
    x = node.input()
    axis = from_front(int(node.known(1, "axis").item()), x.ndim)
    backwards = np.arange(x.shape[axis])[::-1]
    reverse = node.attribute("reverse", 0)
    if reverse:
        x = taken(builder, x, backwards, axis)
    if node.attribute("exclusive", 0):
        around = [(0, 0)] * x.ndim
        around[axis] = (1, -1)
        x = padded(builder, x, around)
    found = cast_to(builder, builder.emit("cumsum", x, axis=axis), x.dtype)
    return taken(builder, found, backwards, axis) if reverse else found


@converts("TopK")
def top_k(builder: Builder, node: OnnxNode) -> list[Value]:
    """The largest or smallest elements in their order, and their indices."""
    x = node.input()
    k = node.numbers("k", 1)
    if not k:
        raise ValueError("no k: expected it as an input or an attribute")
    axis = node.axis(-1, x.ndim)
    largest = bool(node.attribute("largest", 1))
    return [
        builder.emit("top_k", x, k=k[0], axis=axis, largest=largest, indices=indices)
        for indices in (False, True)
    ]


@converts("OneHot")
def one_hot(builder: Builder, node: OnnxNode) -> Value:
    """``on`` where an index is the position along a new axis, otherwise ``off``."""
    indices, values = node.input(0), node.input(2)
    depth = int(node.known(1, "depth").item())
    axis = from_front(int(node.attribute("axis", -1)), indices.ndim + 1)
    shape = (*indices.shape[:axis], 1, *indices.shape[axis:])
    places = np.arange(depth).reshape([-1 if n == axis else 1 for n in range(len(shape))])
    index = cast_to(builder, reshaped(builder, indices, shape), INT64)
    negative = builder.emit("compare", index, builder.known(np.int64(0)), relation="less")
    index = builder.emit(
        "where", negative, builder.emit("add", index, builder.known(np.int64(depth))), index
    )
    hit = builder.emit("compare", index, builder.known(places), relation="equal")
    off, on = (reshaped(builder, sliced(builder, values, 0, n, n + 1), ()) for n in range(2))
    return builder.emit("where", hit, on, off)


# What depends on shapes only


@converts("Shape")
def shape(builder: Builder, node: OnnxNode) -> Value:
    """The sizes, which the example inputs bind."""
    sizes = node.input().shape[node.attribute("start", None) : node.attribute("end", None)]
    return builder.known(np.array(sizes, np.int64))


@converts("Size")
def size(builder: Builder, node: OnnxNode) -> Value:
    """The number of elements."""
    return builder.known(np.int64(prod(node.input().shape)))


@converts("ConstantOfShape")
def constant_of_shape(builder: Builder, node: OnnxNode) -> Value:
    """One number everywhere."""
    value = node.attribute("value", np.zeros(1, np.float32))
    shape = tuple(int(n) for n in node.known(0, "the shape"))
    return builder.known(np.full(shape, value.item(), value.dtype))


@converts("Range")
def range_(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.arange`."""
    names = ("start", "limit", "delta")
    start, limit, delta = (node.known(at, name).item() for at, name in enumerate(names))
    count = max(0, int(np.ceil((limit - start) / delta)))
    numbers = start + np.arange(count) * delta
    return builder.known(numbers.astype(node.input().dtype))


@converts("NonZero")
def nonzero(builder: Builder, node: OnnxNode) -> Value:
    """The positions of what is not 0, in a constant."""
    return builder.known(np.array(np.nonzero(node.known(0, "the tensor")), np.int64))


@converts("EyeLike")
def eye_like(builder: Builder, node: OnnxNode) -> Value:
    """A matrix with a diagonal of 1."""
    x = node.input()
    dtype = onnx_dtype(node.attributes["dtype"]) if "dtype" in node.attributes else x.dtype
    return builder.known(np.eye(x.shape[0], x.shape[1], int(node.attribute("k", 0)), dtype=dtype))


@converts("Constant")
def constant(builder: Builder, node: OnnxNode) -> Value:
    """A tensor, dense or sparse, or numbers."""
    types = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    for name, value in node.attributes.items():
        if name in ("value", "sparse_value"):
            return builder.known(value)
        if name in types:
            return builder.known(np.array(value, types[name]))
    raise ValueError(f"{', '.join(node.attributes) or 'no attribute'}: expected numbers")
