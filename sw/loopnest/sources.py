"""Tensors of other libraries, as arrays of SciPy and NumPy.

The libraries are not imported: an object is known by what it has.
"""

import sys
from typing import Any

import numpy as np
import scipy.sparse as sp


def known(source: Any) -> Any:
    """Return pydata/sparse arrays and PyTorch tensors as scipy.sparse or NumPy arrays, and anything
    else as it is.
    """
    if _is_torch(source):
        return _from_torch(source)
    if type(source).__module__.split(".")[0] == "sparse" and hasattr(source, "todense"):
        coo = source.asformat("coo")
        if coo.fill_value != 0:
            raise ValueError(f"fill value {coo.fill_value}: expected 0")
        if coo.ndim == 0:
            return coo.todense()
        return sp.coo_array((coo.data, tuple(coo.coords)), coo.shape)
    return source


def _is_torch(source: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_torch(tensor: Any) -> Any:
    tensor = tensor.detach().cpu()
    if str(tensor.layout) == "torch.strided":
        return _numbers(tensor)
    coo = tensor.to_sparse_coo().coalesce()
    if coo.dense_dim():
        raise ValueError(f"{coo.dense_dim()} dense dimensions in a sparse tensor: expected none")
    return sp.coo_array((_numbers(coo.values()), tuple(coo.indices().numpy())), tuple(coo.shape))


def _numbers(tensor: Any) -> np.ndarray:
    # NumPy has no bfloat16
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
