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

from .archives import read_npy, read_npz, write_npz
from .frostt import read_tns, write_tns
from .matrix_market import read_mtx

READERS = {".mtx": read_mtx, ".tns": read_tns, ".npz": read_npz, ".npy": read_npy}

SUFFIXES = tuple(READERS)


def read_tensor(path: str | Path) -> Any:
    """Return a file's tensor: a scipy.sparse array, or an ndarray of what is dense.

    Each format has a module in this folder, which defines what it accepts.

    Raises
    ------
    ValueError
        For another suffix, or a file that is not in the format of its suffix; for a text file, the
        message gives the line.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    reader = READERS[_suffix(path)]
    try:
        with _open(path, "rb") as file:
            return reader(file)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: {reason}") from error


def check_output(path: str | Path, order: int, *, sparse: bool) -> None:
    """Check, before it is computed, that a tensor of this order can be written to this file.

    Raises
    ------
    ValueError
        For another suffix, a format that cannot represent such tensors, or a folder that does not
        exist.
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
    """Check that a file can be written, without changing it.

    Raises
    ------
    ValueError
        If it cannot be written.
    """
    path = Path(path)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path}: expected a writable file in a folder that exists")


def write_tensor(path: str | Path, tensor: Any) -> None:
    """Write a scipy.sparse array or an ndarray.

    Raises
    ------
    ValueError
        For another suffix, or a format that cannot represent such tensors.
    """
    path = Path(path)
    check_output(path, tensor.ndim, sparse=sp.issparse(tensor))
    suffix = _suffix(path)
    with _open(path, "wb") as file:
        if suffix == ".mtx":
            scipy.io.mmwrite(file, tensor)
        elif suffix == ".tns":
            write_tns(file, tensor)
        elif suffix == ".npy":
            np.save(file, tensor)
        else:
            write_npz(file, tensor)


def _suffix(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file whose name ends with {', '.join(SUFFIXES)}")
    return suffix


def _open(path: Path, mode: str) -> IO[Any]:
    return gzip.open(path, mode) if path.suffix == ".gz" else open(path, mode)  # type: ignore[return-value]
