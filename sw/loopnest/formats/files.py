"""Tensors in files: Matrix Market (.mtx), FROSTT (.tns), NumPy and SciPy (.npz, .npy).

Matrix Market and FROSTT files may be compressed (.gz).
"""

import gzip
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.io
import scipy.sparse as sp

SUFFIXES = (".mtx", ".tns", ".npz", ".npy")

LARGEST = 1 << 53
"""The largest coordinate that a .tns file may have: a float64 holds it exactly."""


def read_tensor(path: str | Path) -> Any:
    """Return a file's tensor: a scipy.sparse array, or an ndarray of what is dense.

    A .tns file has a line ``i j ... value`` for each entry, coordinates from 1, and no shape: it is
    as large as its largest coordinates, unless a comment ``# shape: 3 4 5`` says more. A .npz file
    is one of `scipy.sparse.save_npz`, of pydata/sparse, or has one array.

    Raises
    ------
    ValueError
        For another suffix, or a file that is not what its suffix says.
    OSError
        If it can't be read.
    """
    path = Path(path)
    readers = {".mtx": _read_mtx, ".tns": _read_tns, ".npz": _read_npz, ".npy": _read_npy}
    reader = readers[_suffix(path)]
    try:
        with _open(path, "rb") as file:
            found = reader(file)
        if found.dtype.kind not in "biufc":
            raise ValueError(f"values of type {found.dtype}: expected numbers")
        return found
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path}: {error}") from error


def check_output(path: str | Path, order: int, *, sparse: bool) -> None:
    """Check, before it is computed, that a tensor of this order can be written to this file.

    Raises
    ------
    ValueError
        For another suffix, a format that has no such tensors, or a folder that is not there.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix == ".mtx" and order != 2:
        raise ValueError(f"{path}: a tensor of order {order}: a .mtx file holds matrices")
    if suffix == ".tns" and order == 0:
        raise ValueError(f"{path}: a number: a .tns file has coordinates")
    if suffix == ".npz" and path.suffix == ".gz":
        raise ValueError(f"{path}: a .npz file is compressed already: expected no .gz")
    if suffix == ".npy" and sparse:
        raise ValueError(f"{path}: a sparse tensor: a .npy file holds dense ones")
    check_writable(path)


def check_writable(path: str | Path) -> None:
    """Check that a file can be written here; it is left as it is.

    Raises
    ------
    ValueError
        If it can't be.
    """
    path = Path(path)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path}: expected a file that can be written, in a folder that is there")


def write_tensor(path: str | Path, tensor: Any) -> None:
    """Write a scipy.sparse array or an ndarray.

    Raises
    ------
    ValueError
        For another suffix, or a format that has no such tensors.
    """
    path = Path(path)
    check_output(path, tensor.ndim, sparse=sp.issparse(tensor))
    suffix = _suffix(path)
    with _open(path, "wb") as file:
        if suffix == ".mtx":
            scipy.io.mmwrite(file, tensor)
        elif suffix == ".tns":
            _write_tns(file, tensor)
        elif suffix == ".npy":
            np.save(file, tensor)
        elif sp.issparse(tensor) and tensor.ndim == 2:
            sp.save_npz(file, tensor)
        elif sp.issparse(tensor):
            # as pydata/sparse has it
            arrays = {"data": tensor.data, "shape": tensor.shape, "coords": np.array(tensor.coords)}
            np.savez_compressed(file, format="coo", fill_value=0.0, **arrays)
        else:
            np.savez_compressed(file, tensor)


def _suffix(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file whose name ends with {', '.join(SUFFIXES)}")
    return suffix


def _open(path: Path, mode: str) -> IO[Any]:
    return gzip.open(path, mode) if path.suffix == ".gz" else open(path, mode)  # type: ignore[return-value]


def _read_mtx(file: IO[bytes]) -> Any:
    found = scipy.io.mmread(file)
    return sp.csr_array(found) if sp.issparse(found) else np.asarray(found)


def _read_tns(file: IO[bytes]) -> Any:
    shape: tuple[int, ...] = ()
    rows: list[list[float]] = []
    for number, raw in enumerate(file, start=1):
        line, _, comment = raw.decode().partition("#")
        if comment.strip().startswith("shape:"):
            shape = tuple(map(int, comment.split(":")[1].split()))
        fields = line.split()
        if len(fields) == 1:
            raise ValueError(f"line {number}: {fields[0]!r}: expected coordinates and a value")
        if fields and rows and len(fields) != len(rows[0]):
            raise ValueError(f"line {number}: {len(fields)} fields: expected {len(rows[0])}")
        if fields:
            rows.append([float(field) for field in fields])
    if not shape and not rows:
        raise ValueError("no entries and no shape: expected lines of coordinates and a value")
    if not rows:
        return sp.coo_array(shape)
    table = np.array(rows, np.float64)
    coordinates = table[:, :-1]
    whole = (coordinates == np.floor(coordinates)) & (coordinates >= 1) & (coordinates <= LARGEST)
    if not whole.all():
        bad = coordinates[~whole][0]
        raise ValueError(f"coordinate {bad:g}: expected whole coordinates from 1 to 2^53")
    at = coordinates.astype(np.int64) - 1
    shape = shape or tuple(int(n) + 1 for n in at.max(0))
    if len(shape) != at.shape[1] or (at >= shape).any():
        raise ValueError(f"shape {shape}: entries at {tuple((at.max(0) + 1).tolist())}")
    return sp.coo_array((table[:, -1], tuple(at.T)), shape)


def _write_tns(file: IO[bytes], tensor: Any) -> None:
    coo = sp.coo_array(tensor)
    file.write(f"# shape: {' '.join(map(str, coo.shape))}\n".encode())
    columns = [*(c + 1 for c in coo.coords), coo.data]
    for entry in zip(*(column.tolist() for column in columns), strict=True):
        file.write((" ".join(map(str, entry)) + "\n").encode())


def _read_npz(file: IO[bytes]) -> Any:
    with np.load(file) as arrays:
        names = set(arrays.files)
        if {"data", "coords", "shape"} <= names:
            coordinates, shape = arrays["coords"], tuple(map(int, arrays["shape"]))
            return sp.coo_array((arrays["data"], tuple(coordinates)), shape)
        if "format" in names:
            file.seek(0)
            return sp.load_npz(file)
        if len(names) != 1:
            raise ValueError(f"arrays {', '.join(sorted(names))}: expected one, or a sparse array")
        return arrays[names.pop()]


def _read_npy(file: IO[bytes]) -> Any:
    return np.load(file)
