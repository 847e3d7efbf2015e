"""Pooling and upsampling."""

from collections.abc import Sequence
from typing import Any

from torch import fx

from .builder import Builder, shape_of
from .table import aten
from .traced import Traced


def _each(numbers: Any, spatial: int) -> tuple[int, ...]:
    """Return a number for each spatial dimension."""
    numbers = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    return numbers * spatial if len(numbers) == 1 else numbers


def _batched(b: Builder, x: Traced, spatial: int) -> Traced:
    """Return images with a dimension for the batch."""
    return b.reshape(x, (1, *x.shape)) if x.ndim == spatial + 1 else x


def _padding(
    x: Traced,
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """Return (before, after) for windows whose last one may end beyond the padding."""
    pairs = []
    for n, out, k, s, p, d in zip(
        x.shape[2:], shape[-len(kernel) :], kernel, stride, padding, dilation, strict=True
    ):
        needed = (out - 1) * s + d * (k - 1) + 1
        pairs.append((p, max(p, needed - n - p)))
    return tuple(pairs)


@aten("max_pool2d_with_indices.default", "max_pool2d.default", "max_pool1d.default")
def _max_pool(
    b: Builder,
    node: fx.Node,
    x: Traced,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    example = node.meta["val"]
    example = example[0] if isinstance(example, list | tuple) else example
    pair = "with_indices" in str(node.target)
    if pair and _uses_indices(node):
        return NotImplemented
    spatial = 1 if "1d" in str(node.target) else 2
    kernel = _each(kernel, spatial)
    stride = _each(stride, spatial) or kernel
    padding, dilation = _each(padding, spatial), _each(dilation, spatial)
    shape = shape_of(example)
    images = _batched(b, x, spatial)
    pads = _padding(images, shape, kernel, stride, padding, dilation)
    how = {"kernel": kernel, "stride": stride, "padding": pads, "dilation": dilation}
    outer = images.shape[:2]
    found = b.emit("max_pool", [images], (*outer, *shape[-spatial:]), x.dtype, **how)
    found = b.reshape(found, shape)
    return (found, None) if pair else found


def _uses_indices(node: fx.Node) -> bool:
    return any(user.args[1] == 1 and user.users for user in node.users)


@aten("avg_pool2d.default", "avg_pool1d.default")
def _avg_pool(
    b: Builder,
    node: fx.Node,
    x: Traced,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    spatial = 1 if "1d" in str(node.target) else 2
    kernel = _each(kernel, spatial)
    stride = _each(stride, spatial) or kernel
    padding = _each(padding, spatial)
    shape = shape_of(node.meta["val"])
    images = _batched(b, x, spatial)
    pads = _padding(images, shape, kernel, stride, padding, (1,) * spatial)
    if any(after > before for before, after in pads) and divisor_override is None:
        if count_include_pad and any(padding):
            return NotImplemented  # elements beyond the padding do not count
        count_include_pad = False
    found = b.emit(
        "avg_pool",
        [images],
        (*images.shape[:2], *shape[-spatial:]),
        x.dtype,
        kernel=kernel,
        stride=stride,
        padding=pads,
        count_padding=count_include_pad,
        divisor=divisor_override,
    )
    return b.reshape(found, shape)


@aten("_adaptive_avg_pool2d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool1d.default")
def _adaptive_avg_pool(b: Builder, node: fx.Node, x: Traced, size: Any) -> Any:
    return _adaptive(b, node, x, size, "mean")


@aten("adaptive_max_pool2d.default", "adaptive_max_pool1d.default")
def _adaptive_max_pool(b: Builder, node: fx.Node, x: Traced, size: Any) -> Any:
    if _uses_indices(node):
        return NotImplemented
    found = _adaptive(b, node, x, size, "max")
    return found if found is NotImplemented else (found, None)


def _adaptive(b: Builder, node: fx.Node, x: Traced, size: Any, operator: str) -> Any:
    """Pool windows that divide the images evenly."""
    spatial = 1 if "1d" in str(node.target) else 2
    size = _each(size, spatial)
    places = x.shape[-spatial:]
    if all(out == 1 for out in size):
        return b.over(operator, x, tuple(range(x.ndim - spatial, x.ndim)), keepdims=True)
    if any(not out or n % out for n, out in zip(places, size, strict=True)):
        return NotImplemented
    images = _batched(b, x, spatial)
    windows = tuple(n // out for n, out in zip(places, size, strict=True))
    how: dict[str, Any] = {"kernel": windows, "stride": windows, "padding": ((0, 0),) * spatial}
    if operator == "max":
        how["dilation"] = (1,) * spatial
    pool = {"mean": "avg_pool", "max": "max_pool"}[operator]
    found = b.emit(pool, [images], (*images.shape[:2], *size), x.dtype, **how)
    return b.reshape(found, (*x.shape[:-spatial], *size))


@aten(
    "upsample_nearest1d.vec",
    "upsample_nearest1d.default",
    "upsample_nearest2d.vec",
    "upsample_nearest2d.default",
)
def _upsample_nearest(b: Builder, node: fx.Node, x: Traced, size: Any, *scales: Any) -> Any:
    shape = shape_of(node.meta["val"])
    outer, places = x.shape[:2], x.shape[2:]
    factors = [out // n for n, out in zip(places, shape[2:], strict=True)]
    if any(n * f != out for n, f, out in zip(places, factors, shape[2:], strict=True)):
        return NotImplemented
    given = scales[0] if scales and isinstance(scales[0], list | tuple) else scales
    if any(s is not None and s != f for s, f in zip(given, factors, strict=False)):
        return NotImplemented  # such a factor moves the elements, whatever the shape
    # one axis at a time: kernels have few modes
    for axis, (place, factor) in enumerate(zip(places, factors, strict=True), len(outer)):
        if factor > 1:
            before, after = x.shape[:axis], x.shape[axis + 1 :]
            apart = b.reshape(x, (*before, place, 1, *after))
            wide = b.broadcast(apart, (*before, place, factor, *after))
            x = b.reshape(wide, (*before, place * factor, *after))
    return x
