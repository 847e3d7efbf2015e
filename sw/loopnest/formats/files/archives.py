"""Files of NumPy (.npy, .npz), with sparse arrays as SciPy and pydata/sparse save them."""

import math
import warnings
import zipfile
from typing import IO, Any

import numpy as np
import scipy.sparse as sp
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..layouts import checked, compressed, coordinates, gcxs

PART = 1 << 24
"""Bytes that are read at a time."""


def read_npy(file: IO[bytes]) -> NDArray:
    """Return the array of a .npy file.

    Raises
    ------
    ValueError
        For another file, one that ends early, or an array of objects (they would be unpickled) or
        of anything else that is not a number.
    """
    array = _read_array(file)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"values of type {array.dtype}: expected numbers")
    return array


def read_arrays(file: IO[bytes]) -> dict[str, NDArray]:
    """Return the arrays of a .npz file by name.

    Raises
    ------
    ValueError
        For another file.
    """
    arrays: dict[str, NDArray] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    arrays[name.removesuffix(".npy")] = _read_array(member)
    except zipfile.BadZipFile as error:
        raise ValueError(f"not a .npz file: {error}") from None
    return arrays


def read_npz(file: IO[bytes]) -> Any:
    """Return the tensor of a .npz file: one of `scipy.sparse.save_npz`, of `sparse.save_npz`, or
    with one array.

    Raises
    ------
    ValueError
        For another file or other arrays, for those that contradict each other, and for a fill
        value other than 0: what the chip does not store is 0.
    """
    arrays = read_arrays(file)
    if "format" in arrays or {"data", "coords", "shape"} <= arrays.keys():
        return _sparse(arrays)
    if len(arrays) != 1:
        shown = ", ".join(sorted(arrays)) or "none"
        raise ValueError(f"arrays {shown}: expected one, or those of a sparse array")
    return arrays.popitem()[1]


def write_npz(file: IO[bytes], tensor: Any) -> None:
    """Write a scipy.sparse array, as SciPy if it is a matrix or else as pydata/sparse, or an
    ndarray.
    """
    if not sp.issparse(tensor):
        np.savez_compressed(file, tensor)
    elif tensor.ndim == 2:
        sp.save_npz(file, tensor)
    else:
        arrays = {"data": tensor.data, "shape": tensor.shape, "coords": np.array(tensor.coords)}
        np.savez_compressed(file, format="coo", fill_value=0.0, **arrays)


def _read_array(file: IO[bytes]) -> NDArray:
    try:
        version = npy.read_magic(file)
    except ValueError:
        raise ValueError("no array of NumPy: expected a file of `numpy.save`") from None
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in headers:
        raise ValueError(f"version {version} of an array: expected 1.0 or 2.0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        shape, by_columns, dtype = headers[version](file)
    if dtype.hasobject:
        raise ValueError(f"values of type {dtype} (pickled): expected numbers")
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}: expected sizes of 0 or more")
    size = math.prod(shape) * dtype.itemsize
    # what the header promises is not allocated before it is there
    data = bytearray()
    while len(data) < size and (part := file.read(min(PART, size - len(data)))):
        data += part
    if len(data) < size:
        raise ValueError(f"the file ends after {len(data)} of the {size} bytes of an array")
    array = np.frombuffer(data, dtype, count=math.prod(shape))
    if dtype.kind == "b":
        array = array.view(np.uint8) != 0
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native.reshape(shape, order="F" if by_columns else "C")


def _sparse(arrays: dict[str, NDArray]) -> Any:
    fill = arrays.get("fill_value", np.array(0))
    if fill.dtype.kind not in "biufc" or (fill != 0).any():
        raise ValueError(f"fill value {fill}: expected 0")

    def array(name: str) -> NDArray:
        if name not in arrays:
            raise ValueError(f"no array {name!r}: expected that of a sparse array")
        return arrays[name]

    def whole(name: str) -> tuple[int, ...]:
        found = array(name)
        if found.dtype.kind not in "iu":
            raise ValueError(f"{name} of type {found.dtype}: expected integers")
        return tuple(int(n) for n in found.reshape(-1))

    kind = array("format").item() if "format" in arrays else "coo"
    kind = kind.decode("latin-1") if isinstance(kind, bytes) else kind
    data, shape = array("data"), whole("shape")
    if data.dtype.kind not in "biufc":
        raise ValueError(f"values of type {data.dtype}: expected numbers")
    if kind in ("csr", "csc", "bsr"):
        return compressed(kind, array("indptr"), array("indices"), data, shape)
    if kind == "gcxs":
        axes = whole("compressed_axes")
        return gcxs(shape, axes, array("indptr"), array("indices"), data)
    if kind == "dia":
        return checked(sp.dia_array((data, array("offsets")), shape))
    if kind == "coo":
        names = ("coords",) if "coords" in arrays else ("row", "col")
        return coordinates(list(np.vstack([array(name) for name in names])), data, shape)
    raise ValueError(f"format {kind!r}: expected csr, csc, bsr, coo, dia or gcxs")
