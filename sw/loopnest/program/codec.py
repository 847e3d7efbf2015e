"""Values, dataclasses and functions as JSON, with arrays beside it.

Only the classes and functions of `loopnest.named` are written, and nothing else is called when they
are read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from math import isfinite
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..formats.pack import CompressedLevel
from ..formats.tensor import Tensor
from ..named import NAMED

Array = NDArray[Any]


class NotPlainError(ValueError):
    """A value that a file cannot hold; the message names it."""


class Encoder:
    """Turns values into what ``json`` writes, and collects their arrays.

    Attributes
    ----------
    arrays : list of array
    """

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._numbers: dict[int, int] = {}

    def array(self, array: Array) -> int:
        """Return the number of an array."""
        if id(array) not in self._numbers:
            self._numbers[id(array)] = len(self.arrays)
            self.arrays.append(array)
        return self._numbers[id(array)]

    def encode(self, value: Any) -> Any:
        """Return a value for ``json``.

        Raises
        ------
        NotPlainError
            If it is neither plain nor of a named class, or a function that has no name.
        """
        match value:
            case Enum():
                self._check(type(value))
                return {"$enum": [type(value).__name__, value.name]}
            case None | bool() | str():
                return value
            case int() | np.integer():
                return int(value)
            case float() | np.floating():
                return float(value) if isfinite(value) else {"$float": str(float(value))}
            case np.bool_():
                return bool(value)
            case np.ndarray():
                return {"$array": self.array(value)}
            case np.dtype():
                return {"$dtype": value.str}
            case slice():
                return {"$slice": [self.encode(n) for n in (value.start, value.stop, value.step)]}
            case Mapping():
                return {"$map": [[self.encode(k), self.encode(v)] for k, v in value.items()]}
            case tuple() | list() | frozenset():
                return [self.encode(v) for v in value]
            case Tensor():
                return {"$tensor": self._tensor(value)}
            case partial():
                given = {name: self.encode(v) for name, v in value.keywords.items()}
                return {"$partial": [self.encode(value.func), self.encode(value.args), given]}
            case MethodType():
                return {"$method": [self.encode(value.__self__), value.__name__]}
            case FunctionType():
                self._check(value)
                return {"$function": value.__qualname__}
        if sp.issparse(value):
            coo = value.tocoo()
            return {"$sparse": self.encode([coo.shape, coo.data, coo.coords])}
        if is_dataclass(value) and not isinstance(value, type):
            self._check(type(value))
            own = {f.name: self.encode(getattr(value, f.name)) for f in fields(value)}
            return {"$data": [type(value).__name__, own]}
        raise NotPlainError(f"{value!r} is no plain value")

    def _check(self, thing: Callable[..., Any]) -> None:
        if NAMED.get(thing.__qualname__) is not thing:
            raise NotPlainError(f"{thing.__module__}.{thing.__qualname__} has no name in files")

    def _tensor(self, tensor: Tensor) -> dict[str, Any]:
        levels = [None if a is None else [a.table, a.words, a.stride] for a in tensor.arrays]
        found = {
            "shape": tensor.shape,
            "levels": tensor.levels,
            "mode_order": tensor.mode_order,
            "wide": tensor.wide,
            "dtype": None if tensor.dtype is None else tensor.dtype.value,
            "chosen": tensor.levels_chosen,
            "arrays": levels,
            "values": tensor.values,
        }
        return {name: self.encode(value) for name, value in found.items()}


class Decoder:
    """Turns back what an `Encoder` has made.

    Parameters
    ----------
    arrays : callable
        Returns the array of a number.
    """

    def __init__(self, arrays: Callable[[int], Array]) -> None:
        self._arrays = arrays

    def decode(self, found: Any) -> Any:
        """Return a value.

        Raises
        ------
        ValueError
            If it names something that is not known.
        """
        if isinstance(found, list):
            return tuple(map(self.decode, found))
        if not isinstance(found, dict):
            return found
        ((tag, of),) = found.items()
        read = getattr(self, f"_{tag.removeprefix('$')}", None)
        if read is None or not tag.startswith("$"):
            raise ValueError(f"{tag!r}: expected a value that this version of Loopnest knows")
        return read(of)

    def _enum(self, of: Sequence[str]) -> Any:
        return self._named(of[0], Enum)[of[1]]

    def _float(self, of: str) -> float:
        return float(of)

    def _array(self, of: int) -> Array:
        return self._arrays(of)

    def _dtype(self, of: str) -> Any:
        return np.dtype(of)

    def _slice(self, of: Sequence[Any]) -> slice:
        return slice(*map(self.decode, of))

    def _map(self, of: Sequence[Sequence[Any]]) -> dict[Any, Any]:
        return {self.decode(key): self.decode(value) for key, value in of}

    def _tensor(self, of: Mapping[str, Any]) -> Tensor:
        own = {name: self.decode(value) for name, value in of.items()}
        tensor = Tensor(
            own["shape"],
            own["levels"],
            [None if level is None else CompressedLevel(*level) for level in own["arrays"]],
            own["values"],
            dtype=own["dtype"],
            wide=own["wide"],
            mode_order=own["mode_order"],
        )
        tensor.levels_chosen = own["chosen"]
        return tensor

    def _sparse(self, of: Any) -> Any:
        shape, data, coordinates = self.decode(of)
        return sp.coo_array((data, coordinates), shape)

    def _data(self, of: Sequence[Any]) -> Any:
        own = {name: self.decode(value) for name, value in of[1].items()}
        return self._named(of[0], object)(**own)

    def _function(self, of: str) -> Any:
        if isinstance(NAMED.get(of), type):
            raise ValueError(f"{of!r}: expected a function")
        return self._named(of, None)

    def _method(self, of: Sequence[Any]) -> Any:
        owner = self.decode(of[0])
        if type(owner).__name__ not in NAMED or not isinstance(
            getattr(type(owner), of[1], None), FunctionType
        ):
            raise ValueError(f"{of[1]!r}: expected a method of a named class")
        return getattr(owner, of[1])

    def _partial(self, of: Sequence[Any]) -> Any:
        given = {name: self.decode(value) for name, value in of[2].items()}
        return partial(self.decode(of[0]), *self.decode(of[1]), **given)

    def _named(self, name: str, kind: type | None) -> Any:
        found = NAMED.get(name)
        if found is None or (
            kind is not None and not (isinstance(found, type) and issubclass(found, kind))
        ):
            raise ValueError(f"{name!r}: expected a name that this version of Loopnest knows")
        return found
