"""Programs: statements that are planned once and run any number of times."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from ..arguments import string
from ..epilogue import Epilogue
from ..expression.operand import Operand
from ..expression.parser import parse
from ..expression.semiring import find_semiring
from ..expression.view import View
from ..formats.tensor import Levels
from ..kernel.shared import Latest
from ..report.report import RunReport, combine
from .build import Planned, build
from .device import Device
from .execute import Values, user_result
from .explain import Explanation
from .prepare import Prepared, prepare

HEADROOM = 8
"""Plans hold for values up to the next power of two whose exponent is a multiple of this."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A statement of a program; the other fields are arguments of `Chip.compute`.

    A mask is written in the statement.
    """

    statement: str
    order: str | Sequence[str] | None = None
    out: Levels | None = None
    epilogue: Epilogue | None = None
    semiring: str = "plus_times"


class Program:
    """Statements planned for a chip, to run with the tensors that they were compiled for or with
    others of the same shapes.

    A statement may use the results of those before it, which stay as the chip wrote them: wide,
    unless an epilogue makes them narrow. What no statement uses is a result of the program.

    Attributes
    ----------
    inputs : tuple of str
        The names of the tensors from outside.
    results : tuple of str
    report : RunReport or None
        Of the last run in this thread, or in any if this one has run nothing; None where that run
        did not end.
    layers : mapping of str to RunReport
        Of the same run, for each statement, by the name of its result.

    Raises
    ------
    ValueError, TypeError
        If a statement is wrong, or an input is missing or not used; the message names it.
    """

    def __init__(
        self, device: Device, assignments: Sequence[Assignment], inputs: Mapping[str, Any]
    ) -> None:
        self._device, self._assignments = device, deepcopy(tuple(assignments))
        self._statements = [parse(string("statement", a.statement)) for a in assignments]
        self.inputs = tuple(inputs)
        self._used = [{a.tensor for a in s.accesses if a.number is None} for s in self._statements]
        self.results = self._find_results()
        dtype = device.config.dtype
        # later changes of the user's arrays do not reach the plans
        self._given = {name: Operand(name, deepcopy(x), dtype) for name, x in inputs.items()}
        self._reports: Latest[dict[str, RunReport]] = Latest()
        self._plans = self._plan(self._given)

    def __call__(self, *inputs: Any) -> Any:
        """Run with these inputs, in the order of ``inputs``; those not given are the ones it was
        compiled for.

        Returns
        -------
        Tensor, csr_array, coo_array, ndarray, or a tuple of them
            The result, or all if there are several; each as `Chip.compute` returns it.

        Raises
        ------
        ValueError, TypeError
            For a wrong input, before the start.
        ChipError
            If the chip stops with an error.
        """
        if len(inputs) > len(self.inputs):
            raise TypeError(f"{len(inputs)} inputs: expected up to {len(self.inputs)}")
        found = self.run(**dict(zip(self.inputs, inputs, strict=False)))
        return found[self.results[0]] if len(found) == 1 else tuple(found.values())

    def run(self, **named: Any) -> dict[str, Any]:
        """Run with these inputs; return the results by name.

        Raises
        ------
        ValueError, TypeError, ChipError
            As for a call.
        """
        self._reports.value = {}
        inputs = self._inputs(named)
        plans = self._plans
        values = plans.values(self, inputs)
        if values is None:
            self._plans = plans = self._plan(inputs)
            values = {}
        steps = [step for planned in plans.planned.values() for step in planned.steps]
        kept = [plans.results[name] for name in self.results]
        reports = self._device.execute(steps, values, kept, chains=True)
        self._reports.value = {
            name: combine(
                str(planned.prepared.statement), [r for s, r in reports if s in planned.steps]
            )
            for name, planned in plans.planned.items()
        }
        return {name: user_result(plans.planned[name], values) for name in self.results}

    @property
    def report(self) -> RunReport | None:
        layers = self.layers
        return combine(self._text, list(layers.values())) if layers else None

    @property
    def layers(self) -> Mapping[str, RunReport]:
        return self._reports.value or {}

    def explain(self) -> Explanation:
        """Return the kernels and what the host does; printed, it shows their loops and cost."""
        steps = [step for planned in self._plans.planned.values() for step in planned.steps]
        return Explanation(self._text, tuple(steps))

    def __str__(self) -> str:
        return str(self.explain())

    @property
    def _text(self) -> str:
        return "; ".join(map(str, self._statements))

    def _find_results(self) -> tuple[str, ...]:
        """Check the names; return those of the results that no statement uses."""
        made: list[str] = []
        for assignment, statement, used in zip(
            self._assignments, self._statements, self._used, strict=True
        ):
            text, name = assignment.statement, statement.result.tensor
            for operand in used:
                if operand not in self.inputs and operand not in made:
                    raise ValueError(
                        f"operand {operand!r} of {text!r} is missing: expected it among the "
                        f"inputs, or a statement before that computes it"
                    )
            if name in self.inputs or name in made:
                kind = "an input" if name in self.inputs else "computed before"
                raise ValueError(f"{text!r}: {name!r} is {kind}: expected another name")
            made.append(name)
        every = set[str]().union(*self._used)
        for name in self.inputs:
            if name not in every:
                raise ValueError(f"input {name!r}: no statement has it")
        return tuple(name for name in made if name not in every)

    def _inputs(self, named: Mapping[str, Any]) -> dict[str, Operand]:
        """Return all inputs of a run; those named are checked."""
        found = dict(self._given)
        for name, source in named.items():
            if name not in found:
                raise TypeError(f"input {name!r}: expected one of {', '.join(self.inputs)}")
            old = found[name]
            found[name] = new = Operand(name, source, self._device.config.dtype)
            if new.shape != old.shape:
                raise ValueError(f"{name} has shape {new.shape}: expected {old.shape}")
        return found

    def _prepared(
        self, inputs: Mapping[str, Operand], results: Mapping[str, Operand], n: int
    ) -> Prepared:
        """Return a statement with these inputs and the results of those before it."""
        assignment = self._assignments[n]
        return prepare(
            self._device.config,
            assignment.statement,
            {name: results[name] if name in results else inputs[name] for name in self._used[n]},
            semiring=find_semiring(string("semiring", assignment.semiring)),
            order=assignment.order,
            out=assignment.out,
            epilogue=assignment.epilogue,
        )

    def _plan(self, inputs: Mapping[str, Operand]) -> "_Plans":
        for operand in inputs.values():
            operand.assume(HEADROOM)
        plans = _Plans(dict(inputs), {})
        for n, statement in enumerate(self._statements):
            prepared = self._prepared(inputs, plans.results, n)
            latency = self._device.memory.latency
            plans.planned[statement.result.tensor] = build(
                self._device.config, prepared, latency, as_written=True
            )
        return plans


@dataclass(frozen=True)
class _Plans:
    """The plans of a program's statements, by the names of their results, and the inputs that they
    were made for.
    """

    inputs: dict[str, Operand]
    planned: dict[str, Planned]

    @property
    def results(self) -> dict[str, Operand]:
        return {name: planned.result for name, planned in self.planned.items()}

    def values(self, program: Program, inputs: Mapping[str, Operand]) -> Values | None:
        """Return what stands for the operands of the plans in a run with these inputs; None if the
        plans do not fit them.
        """
        values: Values = {}
        if all(operand is self.inputs[name] for name, operand in inputs.items()):
            return values
        for n, planned in enumerate(self.planned.values()):
            prepared = program._prepared(inputs, self.results, n)
            for old, new in zip(planned.prepared.operands, prepared.operands, strict=True):
                if not old.known or old is new:
                    continue
                if planned.compacted:
                    return None
                if not old.stands_for(new):
                    return None
                values[old] = new
                if isinstance(old, View) and isinstance(new, View):
                    values[old.base] = new.base
        return values
