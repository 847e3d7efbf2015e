"""The steps of a program: kernels of the chip, and what the host does between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..epilogue import Epilogue
from ..expression.expected import Expected
from ..expression.operand import Operand
from ..expression.reshaped import row_major
from ..expression.stored import Stored
from ..expression.view import View
from ..formats.tensor import Tensor
from ..loops.plan import Plan


@dataclass(frozen=True, eq=False)
class KernelStep:
    """A kernel.

    Attributes
    ----------
    plan : Plan
        Operands that are `Expected` are results of steps before.
    epilogue : Epilogue or None
    result : Expected
        What later steps know the result by; its layout is given.
    instead : callable or None
        Returns steps that compute the same where the accumulator turns out to have too few slots,
        the last one's result being that of this step; None if there are none.
    base : Operand or None
        The tensor of which the result is a part, without it.
    """

    plan: Plan
    epilogue: Epilogue | None
    result: Expected
    instead: Callable[[], "tuple[Step, ...] | None"] | None = None
    base: Operand | None = None

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The operands by column, and the base if there is one."""
        return self.plan.operands if self.base is None else (*self.plan.operands, self.base)


@dataclass(frozen=True, eq=False)
class HostStep:
    """A host step: a rearrangement of tensors by the host.

    Attributes
    ----------
    what : str
        In words.
    operands : tuple of Operand
    result : Operand
        What later steps know the result by; not `Expected` if it is made of the user's operands
        alone, and so already known.
    apply : callable
        Returns the result, given the operands.
    """

    what: str
    operands: tuple[Operand, ...]
    result: Operand
    apply: Callable[..., Operand]


Step = KernelStep | HostStep


def changed(
    steps: list[Step], what: str, operand: Operand, change: Callable[[Operand], Operand]
) -> Operand:
    """Return an operand rearranged by the host, and add the step."""
    found = change(operand)
    if found.known and found is not operand:
        found.assume_bounds(*operand.bounds)
    # a view of something not computed yet is that of its base
    if found is not operand and not isinstance(found, View):
        steps.append(HostStep(what, (operand,), found, change))
    return found


class Packing:
    """Packs operands; one that is used twice with the same levels is packed once."""

    def __init__(self) -> None:
        self._packed: dict[Any, Tensor] = {}

    def pack(self, operand: Operand, stored: Stored) -> Tensor:
        """Return an operand with these levels."""
        key = operand.identity, stored.packing
        if key not in self._packed:
            self._packed[key] = operand.pack(stored)
        return self._packed[key]


def pack_operands(plan: Plan, operands: Sequence[Operand]) -> tuple[Tensor, ...]:
    """Pack the operands of a plan, and a base behind them as it lies in memory."""
    packing = Packing()
    columns = plan.nest.columns
    packed = [packing.pack(operand, s) for operand, s in zip(operands, columns, strict=False)]
    bases = operands[len(columns) :]
    return (*packed, *(base.packed(*row_major(len(base.shape))) for base in bases))
