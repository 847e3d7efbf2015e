"""Elements that are found by their indices or their order, on the host."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from .table import Array, host


def as_indices(indices: Array) -> Array:
    """Return indices as int64.

    Raises
    ------
    ValueError
        If one is no integer, or too large.
    """
    with np.errstate(invalid="ignore"):
        found = np.asarray(indices).astype(np.int64)
    wrong = np.asarray(found != indices).reshape(-1)
    if wrong.any():
        first = np.asarray(indices).reshape(-1)[int(np.argmax(wrong))]
        raise ValueError(f"index {first}: expected an integer of 64 bits")
    return found


@host
def gather(x: Array, indices: Array, *, axis: int = 0) -> Array:
    """`numpy.take` along an axis."""
    return np.take(x, as_indices(indices), axis=axis)


@host
def take_along(x: Array, indices: Array, *, axis: int) -> Array:
    """Elements of a part of ``x``: each index is a position along an axis, at the index's own
    position along the others.
    """
    return x[_places(indices, axis)]


def _places(indices: Array, axis: int) -> tuple[Array, ...]:
    """Return the positions along each axis: ``indices`` along one, and their own along others."""
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = as_indices(indices)
    return tuple(places)


@host
def gather_nd(x: Array, indices: Array, *, batch_axes: int = 0) -> Array:
    """``x[*batch, *index]`` for each index (..., axes) after ``batch_axes`` that both share."""
    shared = indices.shape[:batch_axes]
    flat = x.reshape(-1, *x.shape[batch_axes:])
    index = as_indices(indices).reshape(len(flat), -1, indices.shape[-1])
    batch = np.arange(len(flat))[:, None]
    found = flat[(batch, *np.moveaxis(index, -1, 0))]
    return found.reshape(*shared, *indices.shape[batch_axes:-1], *found.shape[2:])


@host
def scatter(x: Array, indices: Array, updates: Array, *, axis: int) -> Array:
    """``x`` with ``updates`` put where ``indices`` say along an axis, as `take_along`."""
    found = x.copy()
    found[_places(indices, axis)] = updates
    return found


@host
def argmax(x: Array, *, axis: int, keepdims: bool = False) -> Array:
    """`numpy.argmax`."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


@host
def top_k(
    x: Array, *, k: int, axis: int = -1, largest: bool = True, indices: bool = False
) -> Array:
    """The k largest (or smallest) elements along an axis in their order, or their indices."""
    # backwards twice, so that of equal elements the first one comes first
    keys = np.flip(x, axis) if largest else x
    order = np.argsort(keys, axis=axis, kind="stable")
    order = x.shape[axis] - 1 - np.flip(order, axis) if largest else order
    order = np.take(order, np.arange(k), axis=axis)
    return order if indices else np.take_along_axis(x, order, axis=axis)


@host
def one_hot(ids: Array, *, rows: int, wraps: bool = False) -> Any:
    """A sparse matrix with a 1 for each element of ``ids``, in the column that it names; if it
    ``wraps``, negative ones count from the end.
    """
    flat = as_indices(ids)
    flat = _rows(np.where(flat < 0, flat + rows, flat) if wraps else flat, rows)
    return sp.csr_array(
        (np.ones(flat.size, np.float32), (np.arange(flat.size), flat)), (flat.size, rows)
    )


@host
def bags(
    ids: Array,
    offsets: Array,
    weights: Array | None = None,
    *,
    rows: int,
    mode: str = "sum",
    padding: int | None = None,
) -> Any:
    """A sparse matrix that sums the rows of a table by bags (`embedding_bag`), or averages them."""
    flat = _rows(ids, rows)
    counts = np.diff([*map(int, offsets), flat.size])
    of = np.repeat(np.arange(len(counts)), counts)
    own = np.ones(flat.size, np.float32) if weights is None else weights.astype(np.float32)
    kept = flat != padding
    of, flat, own = of[kept], flat[kept], own[kept]
    if mode == "mean":
        own = own / np.bincount(of, minlength=len(counts))[of].astype(np.float32)
    return sp.csr_array((own, (of, flat)), (len(counts), rows))


def _rows(ids: Array, rows: int) -> Array:
    """Return indices of a table's rows, in one dimension."""
    flat = as_indices(ids).reshape(-1)
    outside = flat[(flat < 0) | (flat >= rows)]
    if outside.size:
        raise ValueError(f"index {outside[0]}: expected 0 to {rows - 1}")
    return flat
