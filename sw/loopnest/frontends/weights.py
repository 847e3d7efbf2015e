"""Weights from files of safetensors and GGUF."""

import json
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from .extras import require

PARTS = ("compressed", "bitmask", "shape", "row_offsets")
"""What a tensor with a bitmask is stored as."""


class Weights(Mapping[str, Any]):
    """Tensors by name, each read when it is asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], Any]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, name: str) -> Any:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def load_weights(path: str | PathLike[str]) -> Weights:
    """Open a file of weights.

    Parameters
    ----------
    path : path
        Of ``.safetensors``, of an index ``.safetensors.index.json`` of several, or of ``.gguf``.

    Returns
    -------
    Weights
        Arrays of NumPy in the types of the file; zeros stay as they are. Those of GGUF are float32,
        whatever they are quantised to. Tensors with a bitmask (the formats ``sparse-bitmask`` and
        ``sparse-24-bitmask`` of compressed-tensors) are arrays of SciPy with an entry for each bit
        that is set, also where its value is 0: CSR with 2 dimensions, otherwise COO.

    Raises
    ------
    ValueError
        If the file is damaged, here or where a tensor is read; the message names it.
    FileNotFoundError
    ModuleNotFoundError
        Without the package that reads it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.name.endswith(".safetensors"):
        return Weights(_safetensors(path))
    if path.name.endswith(".safetensors.index.json"):
        return Weights(_index(path))
    if path.name.endswith(".gguf"):
        return Weights(_gguf(path))
    raise ValueError(f"{path.name}: expected .safetensors, .safetensors.index.json or .gguf")


def _safetensors(path: Path) -> dict[str, Callable[[], Any]]:
    """Return readers of a file's tensors."""
    safetensors = require("safetensors", "safetensors")
    require("ml_dtypes", "safetensors")  # NumPy knows bfloat16 by it
    try:
        file = safetensors.safe_open(path, framework="np")
        names = list(file.keys())
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path.name}: not a file of safetensors: {error}") from None

    def read(name: str) -> Any:
        try:
            return file.get_tensor(name)
        except (TypeError, AttributeError):
            kind = file.get_slice(name).get_dtype()
            raise ValueError(f"{path.name}: {name}: type {kind}: expected one of NumPy") from None

    def read_masked(base: str) -> Any:
        try:
            values, bits, shape = (read(f"{base}.{part}") for part in PARTS[:3])
            return unmasked(values, bits, tuple(int(n) for n in shape))
        except ValueError as error:
            raise ValueError(f"{path.name}: {base}: {error}") from None

    masked = [
        name.removesuffix(".bitmask")
        for name in names
        if name.endswith(".bitmask")
        and all(f"{name.removesuffix('.bitmask')}.{part}" in names for part in PARTS[:3])
    ]
    parts = {f"{base}.{part}" for base in masked for part in PARTS}
    readers: dict[str, Callable[[], Any]] = {base: _bound(read_masked, base) for base in masked}
    return readers | {name: _bound(read, name) for name in names if name not in parts}


def _bound(read: Callable[[Any], Any], what: Any) -> Callable[[], Any]:
    return lambda: read(what)


def unmasked(values: np.ndarray, bits: np.ndarray, shape: tuple[int, ...]) -> Any:
    """Return the tensor of a bitmask, with an entry for each of its bits.

    Parameters
    ----------
    values : array
        Of the bits that are set, in their order.
    bits : array of uint8
        Eight elements of the last dimension in each byte, the first one in the lowest bit.

    Raises
    ------
    ValueError
        If they do not fit each other.
    """
    packed = (*shape[:-1], -(-shape[-1] // 8)) if shape else ()
    if not shape or bits.dtype != np.uint8 or bits.shape != packed:
        raise ValueError(f"a mask {bits.dtype}{bits.shape} of {shape}: expected uint8{packed}")
    mask = np.unpackbits(bits, axis=-1, count=shape[-1], bitorder="little").astype(bool)
    count = int(np.count_nonzero(mask))
    if values.size != count:
        raise ValueError(f"{values.size} values for a mask of {count}: expected as many")
    values = values.reshape(-1)
    if values.dtype.kind not in "fiub" or values.dtype == np.float16:
        values = values.astype(np.float32)  # SciPy has neither bfloat16 nor float16
    if len(shape) == 2:
        indptr = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
        return sp.csr_array((values, np.nonzero(mask)[1], indptr), shape=shape)
    return sp.coo_array((values, np.nonzero(mask)), shape=shape)


def _index(path: Path) -> dict[str, Callable[[], Any]]:
    """Return readers of the tensors of several files, which an index lists."""
    try:
        files = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path.name}: not an index of safetensors: no weight_map") from None
    readers: dict[str, Callable[[], Any]] = {}
    for file in files:
        if not (path.parent / file).is_file():
            raise FileNotFoundError(f"{path.parent / file}: no such file, which {path.name} lists")
        readers |= _safetensors(path.parent / file)
    return readers


WHOLE = ("I8", "I16", "I32", "I64", "F64")
"""Types of GGUF that are NumPy's, beside float16 and float32."""


def _gguf(path: Path) -> dict[str, Callable[[], Any]]:
    """Return readers of a file's tensors."""
    gguf = require("gguf", "gguf")
    try:
        tensors = gguf.GGUFReader(path).tensors
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path.name}: not a GGUF file, or a damaged one: {error}") from None

    def read(tensor: Any) -> Any:
        try:
            return gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            kind = tensor.tensor_type.name
            if kind in WHOLE:
                return np.asarray(tensor.data)
            raise ValueError(f"{path.name}: {tensor.name}: type {kind} cannot be read") from None

    return {tensor.name: _bound(read, tensor) for tensor in tensors}
