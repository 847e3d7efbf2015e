"""Tensors of PyTorch, pydata/sparse and pandas, as arrays of SciPy and NumPy.

The libraries are not imported: an object is recognised by the module of its type.
"""

import sys
from typing import Any

import numpy as np

from .layouts import compressed, coordinates, gcxs


def is_torch(source: Any) -> bool:
    """Return whether it is a tensor of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def is_pydata(source: Any) -> bool:
    """Return whether it is an array of pydata/sparse."""
    return type(source).__module__.split(".")[0] == "sparse" and hasattr(source, "fill_value")


def is_pandas(source: Any) -> bool:
    """Return whether it is a frame, a series, an index or an array of pandas."""
    module = type(source).__module__.split(".")[0]
    return module == "pandas" and (hasattr(source, "columns") or hasattr(source, "dtype"))


def from_torch(tensor: Any) -> Any:
    """Return a tensor's numbers, whatever its layout, device, strides and graph.

    Raises
    ------
    ValueError
        For a sparse tensor whose indices contradict each other, or with batch or dense
        dimensions.
    TypeError
        For a quantized tensor, and one without numbers (on the device meta).
    """
    if tensor.device.type == "meta":
        raise TypeError("tensor on the device meta: expected one with numbers")
    if tensor.is_quantized:
        raise TypeError(f"quantized tensor ({tensor.dtype}): expected numbers (`dequantize`)")
    if tensor.is_nested:
        raise TypeError("nested tensor: expected one of one shape")
    tensor = tensor.detach()
    layout = str(tensor.layout).removeprefix("torch.")
    if layout == "sparse_coo":
        indices, values = tensor._indices(), _torch_numbers(tensor._values())
        if values.ndim != 1:
            raise ValueError(f"{values.ndim - 1} dense dimensions: expected none")
        return coordinates(list(_torch_numbers(indices)), values, tuple(tensor.shape))
    if layout not in ("sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"):
        return _torch_numbers(tensor.to_dense() if layout != "strided" else tensor)
    by_rows = layout in ("sparse_csr", "sparse_bsr")
    names = ("crow_indices", "col_indices") if by_rows else ("ccol_indices", "row_indices")
    indptr, indices = (_torch_numbers(getattr(tensor, name)()) for name in names)
    values = _torch_numbers(tensor.values())
    if indptr.ndim != 1:
        raise ValueError(f"{indptr.ndim - 1} batch dimensions: expected none")
    blocks = layout in ("sparse_bsr", "sparse_bsc")
    if values.ndim != (3 if blocks else 1):
        raise ValueError(f"{values.ndim - (3 if blocks else 1)} dense dimensions: expected none")
    rows, columns = tensor.shape
    if layout == "sparse_bsc":
        # SciPy has no BSC format: the transposed matrix is BSR
        values = np.ascontiguousarray(values.transpose(0, 2, 1))
        return compressed("bsr", indptr, indices, values, (columns, rows)).T
    return compressed(layout.removeprefix("sparse_"), indptr, indices, values, (rows, columns))


def _torch_numbers(tensor: Any) -> np.ndarray:
    """Return a dense tensor as an array; as float32, if NumPy lacks its type."""
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    if name.startswith(("bfloat16", "float8", "float4")):
        tensor = tensor.float()
    elif name == "complex32":
        tensor = tensor.cfloat()
    return tensor.numpy()


def from_pydata(array: Any) -> Any:
    """Return an array of pydata/sparse as a coo_array, or an ndarray if it has order 0.

    Raises
    ------
    ValueError
        For a fill value other than 0, and for arrays that contradict each other.
    """
    shape = tuple(int(n) for n in array.shape)
    if not shape:
        return np.asarray(array.asformat("coo").todense())
    if array.fill_value != 0:
        raise ValueError(f"fill value {array.fill_value}: expected 0")
    if hasattr(array, "indptr"):
        axes = tuple(int(a) for a in array.compressed_axes or ())
        return gcxs(shape, axes, array.indptr, array.indices, array.data)
    coo = array.asformat("coo")
    return coordinates(list(coo.coords), np.asarray(coo.data), shape)


def from_pandas(source: Any) -> Any:
    """Return a frame or a series: a coo_array if it is sparse.

    Raises
    ------
    ValueError
        For a fill value other than 0, missing values (in types that mark them), and a frame with
        both sparse and dense columns.
    TypeError
        For columns that hold no numbers.
    """
    if not hasattr(source, "columns"):
        array = getattr(source, "array", source)
        if hasattr(array, "sp_values"):
            at, values = _sparse_column(array, "")
            return coordinates([at], values, (len(source),))
        return source.to_numpy(dtype=_number_type(source.dtype, ""))
    names = [f"column {name!r}" for name in source.columns]
    columns = [source.iloc[:, k].array for k in range(len(names))]
    types = [
        _number_type(dtype, f"{name} ") for name, dtype in zip(names, source.dtypes, strict=True)
    ]
    sparse = [hasattr(column, "sp_values") for column in columns]
    if not any(sparse):
        return source.to_numpy(dtype=np.result_type(*types) if types else None)
    if not all(sparse):
        dense, stored = names[sparse.index(False)], names[sparse.index(True)]
        raise ValueError(f"{dense} is dense, {stored} is sparse: expected one kind of columns")
    found = [
        _sparse_column(column, f"{name}: ") for name, column in zip(names, columns, strict=True)
    ]
    rows = np.concatenate([at for at, _ in found])
    numbers = np.repeat(np.arange(len(found)), [len(at) for at, _ in found])
    values = np.concatenate([values for _, values in found])
    return coordinates([rows, numbers], values, tuple(source.shape))


def _number_type(dtype: Any, where: str) -> np.dtype:
    """Return the NumPy type of a column's numbers."""
    found = getattr(dtype, "subtype", getattr(dtype, "numpy_dtype", dtype))
    if not isinstance(found, np.dtype) or found.kind not in "biufc":
        raise TypeError(f"{where}of type {dtype}: expected numbers")
    return found


def _sparse_column(array: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where a sparse column has values, and the values."""
    if not array.fill_value == 0:
        raise ValueError(f"{where}fill value {array.fill_value}: expected 0")
    return array.sp_index.indices, array.sp_values
