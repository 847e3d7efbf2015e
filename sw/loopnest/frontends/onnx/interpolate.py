"""Interpolation along an axis as a sparse matrix: each row holds the weights of one result."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .builder import Value
from .node import OnnxNode, from_front

Floats = NDArray[np.float64]

NEAREST: dict[str, Callable[[Floats], Any]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resizing(node: OnnxNode, x: Value) -> list[tuple[int, Any]]:
    """Return the axes whose size changes, each with its matrix (new size, old size).

    Raises
    ------
    ValueError
        For a size that depends on the model's inputs, and for cropping.
    """
    old = node.operator == "Upsample" or node.opset < 11
    axes = [from_front(int(n), x.ndim) for n in node.attribute("axes", range(x.ndim))]
    scales, sizes = _target(node, x, axes, old)
    default = "asymmetric" if old else "half_pixel"
    coordinates = node.attribute("coordinate_transformation_mode", default)
    node.refuse(
        "coordinate_transformation_mode",
        default,
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    )
    node.refuse("mode", "nearest", "linear", "bilinear", "trilinear", "cubic")
    found = []
    for axis, scale, size in zip(axes, scales, sizes, strict=True):
        before = x.shape[axis]
        if size == before and scale == 1:
            continue
        at = _places(coordinates, before, size, scale)
        found.append((axis, _matrix(node, at, before, scale, old)))
    return found


def times_repeated(matrix: Any) -> int:
    """Return how often a matrix repeats each element in place, 0 if that is not what it does."""
    size, before = matrix.shape
    times, rest = divmod(size, before) if before else (0, 0)
    if rest or not chooses(matrix):
        return 0
    return times if np.array_equal(matrix.indices, np.arange(size) // max(times, 1)) else 0


def steps_between(matrix: Any) -> slice | None:
    """Return the slice of the elements that a matrix chooses; None if that is not what it does."""
    at = matrix.indices
    if not chooses(matrix) or len(at) == 0:
        return None
    step = int(at[1] - at[0]) if len(at) > 1 else 1
    if step < 1 or np.any(np.diff(at) != step):
        return None
    return slice(int(at[0]), int(at[-1]) + 1, step)


def chooses(matrix: Any) -> bool:
    """Return whether each row of a matrix has one entry, which is 1."""
    return bool(np.all(np.diff(matrix.indptr) == 1) and np.all(matrix.data == 1))


def _target(
    node: OnnxNode, x: Value, axes: Sequence[int], old: bool
) -> tuple[list[float], list[int]]:
    """Return the scale and the new size of each axis."""
    shape = [x.shape[axis] for axis in axes]
    by_size = node.optional(3)
    if by_size is not None and by_size.shape != (0,):
        sizes = [int(n) for n in node.known(3, "sizes")]
        node.refuse("keep_aspect_ratio_policy", "stretch", "not_larger", "not_smaller")
        policy = node.attribute("keep_aspect_ratio_policy", "stretch")
        scales = [size / n for size, n in zip(sizes, shape, strict=True)]
        if policy != "stretch":
            scale = min(scales) if policy == "not_larger" else max(scales)
            scales = [scale] * len(axes)
            sizes = [int(np.floor(scale * n + 0.5)) for n in shape]
        return scales, sizes
    if "scales" in node.attributes:
        scales = [float(n) for n in node.attributes["scales"]]
    else:
        scales = [float(n) for n in node.known(1 if old else 2, "scales")]
    if len(scales) != len(axes):
        raise ValueError(f"scales = {scales}: expected {len(axes)} numbers")
    return scales, [int(np.floor(n * s)) for n, s in zip(shape, scales, strict=True)]


def _places(mode: str, before: int, size: int, scale: float) -> Floats:
    """Return where each result is on the axis of the input."""
    at = np.arange(size, dtype=np.float64)
    if mode == "asymmetric":
        return at / scale
    if mode == "align_corners":
        return at * (before - 1) / (size - 1) if size > 1 else np.zeros(size)
    if mode == "pytorch_half_pixel" and size <= 1:
        return np.zeros(size)
    middle = (at + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return middle + before / 2 * (1 - size / (before * scale))
    return middle


def _matrix(node: OnnxNode, at: Floats, before: int, scale: float, old: bool) -> Any:
    """Return the weights of the elements of an axis, a row for each place."""
    mode = node.attribute("mode", "nearest")
    if mode == "nearest":
        rounding = "floor" if old else node.attribute("nearest_mode", "round_prefer_floor")
        columns = np.clip(NEAREST[rounding](at), 0, before - 1)[:, None]
        weights = np.ones_like(columns)
    else:
        narrow = min(1.0, scale) if node.attribute("antialias", 0) else 1.0
        support = 2 if mode == "cubic" else 1
        reach = int(np.ceil(support / narrow))
        columns = np.floor(at)[:, None] + np.arange(1 - reach, reach + 1)
        distance = np.abs(columns - at[:, None]) * narrow
        if mode == "cubic":
            weights = _cubic(distance, node.attribute("cubic_coeff_a", -0.75))
        else:
            weights = np.maximum(0, 1 - distance)
        if node.attribute("exclude_outside", 0):
            weights = np.where((columns < 0) | (columns >= before), 0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
        columns = np.clip(columns, 0, before - 1)
    rows = np.broadcast_to(np.arange(len(at))[:, None], columns.shape)
    entries = (weights.ravel(), (rows.ravel(), columns.ravel().astype(np.int64)))
    matrix = sp.coo_array(entries, shape=(len(at), before)).tocsr()
    matrix.eliminate_zeros()
    return matrix


def _cubic(distance: Floats, a: float) -> Floats:
    """Return Keys' cubic kernel (Cubic Convolution Interpolation, 1981) at distances."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * a * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
