"""What a program consists of once it is planned: what a run needs, and a file holds."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from loopnest_hw.config import ChipConfig

from ..expression.difference import difference
from ..expression.operand import Operand
from ..expression.parser import parse
from ..expression.semiring import find_semiring
from ..expression.view import View
from ..formats.tensor import Tensor
from ..lazy import lazy
from ..report.report import RunReport, combine
from .build import Planned
from .chain import root
from .device import Device
from .execute import Values, as_given, resolved, returns_tensor
from .operands import stand_in
from .operation import whole
from .prepare import prepare
from .start import Stage


class UnplannedError(ValueError):
    """An input that the plans do not hold for; the message names it, and in what it differs."""


@dataclass(frozen=True)
class Bound:
    """A statement and its operands.

    Attributes
    ----------
    text, semiring, sizes
        As in `Assignment`.
    operands : tuple of Operand
        In the order written, as the plans know them.
    fixed : frozenset of str
        The tensors that are planned for with these entries only.
    """

    text: str
    semiring: str
    sizes: Mapping[str, int] | None
    operands: tuple[Operand, ...]
    fixed: frozenset[str]

    @lazy
    def names(self) -> tuple[str | None, ...]:
        """The tensors of the operands; None for a number."""
        accesses = parse(self.text).accesses
        return tuple(a.tensor if a.number is None else None for a in accesses)

    @lazy
    def mask(self) -> str | None:
        """The mask's tensor."""
        mask = parse(self.text).mask
        return None if mask is None else mask.access.tensor


@dataclass(frozen=True)
class Outcome:
    """A result as a run returns it.

    Attributes
    ----------
    operand : Operand
    levels : tuple of str or None
        Of a statement's result; None of what is returned as an array.
    as_tensor : bool
        Whether it is returned as a `Tensor`.
    """

    operand: Operand
    levels: tuple[str, ...] | None = None
    as_tensor: bool = False

    def of(self, values: Values) -> Any:
        """Return it, given the values of a run."""
        found = resolved(self.operand, values)
        if self.levels is None:
            return whole(found)
        assert isinstance(found.source, Tensor)
        return as_given(found.source, self.levels, self.as_tensor)


def outcome(planned: Planned) -> Outcome:
    """Return a statement's result."""
    return Outcome(planned.result, planned.prepared.levels, returns_tensor(planned))


@dataclass(frozen=True)
class Layer:
    """A statement, the results of its kernels, and the cycles that they are expected to take."""

    name: str
    statement: str
    results: tuple[Operand, ...]
    cycles: float


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A planned program.

    Attributes
    ----------
    config : ChipConfig
    text : str
        The statements.
    explanation : str
        The kernels' loops, and what the host does.
    inputs : mapping of str to Operand
        What the plans know the inputs by.
    others : mapping of str to Operand
        The same for constants, and for the results of items.
    bound : sequence of Bound
    layers : sequence of Layer
    outcomes : mapping of str to Outcome
        The results of a run by name.
    results : tuple of str
        Their names in the order in which a call returns them; one may be there several times.
    stages : sequence of Stage
    cuts : mapping of int to str
        Why a step is not in the start of the one before it, by its number.
    """

    config: ChipConfig
    text: str
    explanation: str
    inputs: Mapping[str, Operand]
    others: Mapping[str, Operand]
    bound: Sequence[Bound]
    layers: Sequence[Layer]
    outcomes: Mapping[str, Outcome]
    results: tuple[str, ...]
    stages: Sequence[Stage]
    cuts: Mapping[int, str] = field(default_factory=dict)

    @property
    def expected(self) -> dict[str, float]:
        """The cycles that each statement is expected to take, by the name of its result."""
        return {layer.name: layer.cycles for layer in self.layers}

    def values(self, inputs: Mapping[str, Operand]) -> Values:
        """Return what stands for the operands of the plans in a run with these inputs, by name.

        Raises
        ------
        UnplannedError
            If the plans do not hold for one of them.
        """
        changed = {name: new for name, new in inputs.items() if new is not self.inputs[name]}
        values: Values = {self.inputs[name]: new for name, new in changed.items()}
        for bound in self.bound:
            names = bound.names
            if not changed.keys() & set(names):
                continue
            given = {
                name: changed.get(name) or self._unchanged(name, name == bound.mask)
                for name in names
                if name is not None
            }
            prepared = prepare(
                self.config,
                bound.text,
                given,
                semiring=find_semiring(bound.semiring),
                sizes=bound.sizes,
            )
            for name, old, new in zip(names, bound.operands, prepared.operands, strict=True):
                if name not in changed:
                    continue
                if name in bound.fixed:
                    raise UnplannedError(
                        f"{name}: {bound.text!r} leaves out coordinates that the tensors which it "
                        f"was compiled for do not have, or divides rows of theirs: expected these"
                    )
                cause = difference(old, new)
                if cause is not None:
                    raise UnplannedError(f"{name} {cause}, for which the program was compiled")
                values[old] = new
                if isinstance(old, View) and isinstance(new, View):
                    values[old.base] = new.base
        return values

    def _unchanged(self, name: str, mask: bool) -> Operand:
        """Return an operand that a run does not change. Its entries do not matter, but where views
        are within the bounds of their tensors may depend on a mask.
        """
        known = self.others.get(name) or self.inputs[name]
        if mask and known.source is not None:
            return known
        return stand_in(
            name, known.shape, known.dtype, known.given, known.sparse, known.wide, known.bounds
        )


def execute_contents(
    device: Device, contents: Contents, values: Values
) -> tuple[dict[str, Any], dict[str, RunReport]]:
    """Run a program with these operands (`Contents.values`); return the results and the reports of
    its statements, by name.

    Raises
    ------
    ChipError
        If the chip ends a kernel with an error.
    """
    kept = [root(outcome.operand) for outcome in contents.outcomes.values()]
    reports = device.execute(contents.stages, values, kept)
    layers = {}
    for layer in contents.layers:
        own = [report for result, report in reports if result in layer.results]
        layers[layer.name] = combine(layer.statement, own)
    # what the host passes on may be an input, a constant or part of one
    found = {name: deepcopy(outcome.of(values)) for name, outcome in contents.outcomes.items()}
    return found, layers
