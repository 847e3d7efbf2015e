"""Collects what a program of a graph is made of: items, constants, and names for them."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import scipy.sparse as sp

from ..epilogue import Epilogue
from ..formats.pack import COMPRESSED, DENSE
from ..formats.tensor import Levels, sparse_levels
from ..images.layer import Layer
from ..nest.result import Part
from ..program.operation import HostOperation, Reshape
from ..program.prepare import TAKEN
from ..program.program import Assignment, Item
from .graph import unused

MAX_MODES = 4
"""Of a tensor that kernels read or write."""


class Builder:
    """The parts of a program, and the shapes of its tensors.

    Parameters
    ----------
    names : collection of str
        That are taken.
    skip_zeros : bool
        Whether results may be stored without their zeros.

    Attributes
    ----------
    items : list
        Of the program.
    inputs, constants, samples : dict
        Of the program, by name.
    """

    def __init__(self, names: Collection[str], *, skip_zeros: bool) -> None:
        self._skip_zeros = skip_zeros
        self.items: list[Item] = []
        self.inputs: dict[str, Any] = {}
        self.constants: dict[str, Any] = {}
        self.samples: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._levels: dict[str, Levels] = {}
        self._shaped: dict[tuple[str, tuple[int, ...]], str] = {}
        self._places: dict[str, int] = {}
        self._computed: set[str] = set()
        self._taken = {*TAKEN, *names}

    def name(self, wanted: str) -> str:
        """Return a name like this one that a statement can have, and nothing else has."""
        base = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        base = base if re.match(r"[A-Za-z_]", base) else f"t{base}"
        found = unused(base, self._taken)
        self._taken.add(found)
        return found

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the program."""
        return self._shapes[tensor]

    def add_input(self, name: str, array: Any) -> str:
        """Add an input; return the tensor that statements know it by."""
        self.inputs[name] = array
        if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and name not in TAKEN:
            self._shapes[name] = array.shape
            return name
        return self.host("reshape", [name], array.shape, name, {"shape": list(array.shape)})

    def add_constant(self, like: str, array: Any) -> str:
        """Add a constant; return its name."""
        tensor = self.name(like)
        self.constants[tensor] = array
        self._shapes[tensor] = tuple(array.shape)
        return tensor

    def add_statement(
        self,
        like: str,
        indices: Sequence[str],
        expression: str,
        shape: Sequence[int],
        *,
        epilogue: Epilogue | None,
        sizes: Mapping[str, int] | None = None,
        semiring: str = "plus_times",
        sample: Any = None,
        part: Part | None = None,
        base: str | None = None,
    ) -> str:
        """Add a statement; return the name of its result, of this shape. The result is dense, but
        stored without its zeros if a ``sample`` says where an example of it has others. ``part``
        and ``base`` are those of `Assignment`.
        """
        tensor = self.name(like)
        left = f"{tensor}[{','.join(indices)}]" if indices else tensor
        out: Levels = (DENSE,) * len(indices)
        if sample is not None and self._skip_zeros:
            out = sparse_levels(len(indices))
            self.samples[tensor] = sample
        self.items.append(
            Assignment(
                statement=f"{left} = {expression}",
                out=out,
                epilogue=epilogue,
                semiring=semiring,
                sizes=dict(sizes) if sizes else None,
                part=part,
                base=base,
            )
        )
        self._places[tensor] = len(self.items) - 1
        self._computed.add(tensor)
        self._shapes[tensor] = tuple(shape)
        return tensor

    def computed(self, tensor: str) -> bool:
        """Return whether kernels compute a tensor."""
        return tensor in self._computed

    def place_of(self, tensor: str) -> int:
        """Return the place of the statement that computes a tensor among the items."""
        return self._places[tensor]

    def may_move(self, tensor: str) -> bool:
        """Return whether the statement that computes a tensor may write it into another one
        (`write_into`).
        """
        if tensor not in self._places:
            return False
        item = self.items[self._places[tensor]]
        assert isinstance(item, Assignment) and item.out is not None
        arrays = item.epilogue is not None and item.epilogue.reads_memory
        dense = COMPRESSED not in item.out and item.semiring == "plus_times"
        shaped = any(own == tensor for own, _ in self._shaped)
        return dense and not arrays and not shaped and item.part is None

    def write_into(
        self, tensor: str, part: Part, base: str | None, shape: Sequence[int], *, narrow: bool
    ) -> None:
        """Let the statement that computes a tensor write it into ``base``, or among zeros: it is
        the whole tensor then, of this shape.
        """
        item = self.items[self._places[tensor]]
        assert isinstance(item, Assignment)
        epilogue = item.epilogue
        if narrow:
            epilogue = replace(epilogue or Epilogue(), out="narrow")
        item = replace(item, part=part, base=base, epilogue=epilogue)
        self.items[self._places[tensor]] = item
        self._shapes[tensor] = tuple(shape)

    def add_layer(self, tensor: str, layer: Layer, epilogue: Epilogue | None) -> None:
        """Add a layer on images, whose result is ``tensor``."""
        self.constants |= layer.operands
        self._taken.update(layer.operands)
        out = None if self._skip_zeros else "dense,dense"
        assignment = layer.assignment(epilogue, out=out)
        assert assignment.out is not None
        self._levels[tensor] = assignment.out
        self.items.append(assignment)
        self._shapes[tensor] = layer.layout.shape
        self._computed.add(tensor)

    def levels(self, tensor: str) -> Levels:
        """Return the levels of a layer's result."""
        return self._levels[tensor]

    def reshaped(self, tensor: str, shape: Sequence[int]) -> str:
        """Return a tensor in another shape."""
        shape = tuple(shape)
        if self._shapes[tensor] == shape:
            return tensor
        if (tensor, shape) not in self._shaped:
            if tensor in self.inputs or max(len(shape), len(self._shapes[tensor])) > MAX_MODES:
                found = self.host("reshape", [tensor], shape, tensor, {"shape": list(shape)})
            else:
                found = self.name(tensor)
                self.items.append(Reshape(result=found, operand=tensor, shape=shape))
                self._shapes[found] = shape
                self._computed.add(found)
            self._shaped[tensor, shape] = found
        return self._shaped[tensor, shape]

    def host(
        self,
        operator: str,
        operands: Sequence[str],
        shape: Sequence[int],
        like: str,
        attributes: Mapping[str, Any],
        *,
        wide: bool = False,
        sample: Any = None,
    ) -> str:
        """Add an operator that the host computes; return its result. Kernels read it without its
        zeros if a ``sample`` says where an example of it has others.
        """
        tensor = self.name(like)
        if sample is not None and self._skip_zeros:
            self.samples[tensor] = sp.coo_array(sample)
        self.items.append(
            HostOperation(
                result=tensor,
                operator=operator,
                operands=tuple(operands),
                attributes=attributes,
                shape=tuple(shape),
                wide=wide,
            )
        )
        self._shapes[tensor] = tuple(shape)
        return tensor
