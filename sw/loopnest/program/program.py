"""Programs: statements that are planned once and run any number of times."""

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from ..arguments import string
from ..epilogue import Epilogue
from ..expression.expected import Expected
from ..expression.operand import Operand
from ..expression.parser import parse
from ..expression.reshaped import Reshaped
from ..expression.semiring import find_semiring
from ..formats.tensor import Levels
from ..nest.result import Part
from .build import Planned, build
from .chain import root
from .contents import Bound, Contents, Layer, Outcome, UnplannedError, execute_contents, outcome
from .device import Device
from .explain import Explanation, formats
from .filled import complements, dense_levels, filled_source
from .operation import BOUND, HostOperation, Reshape
from .placed import place
from .prepare import Prepared, prepare
from .runnable import Runnable
from .saved import write_program
from .schedule import needed, scheduled
from .start import find_stages
from .steps import KernelStep, Step

HEADROOM = 8
"""Plans hold for values up to the next power of two whose exponent is a multiple of this."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A statement of a program; the other fields are arguments of `Chip.compute`.

    A mask is written in the statement. ``sizes`` are those of indices that stand alone nowhere, as
    those of a slice: ``y[i] = x[2*i+1]``; a tensor that is larger there shows its first elements.
    With a ``part`` the result is that part of a larger dense tensor, which is zeros elsewhere, or
    ``base``, a tensor that the statement does not have.
    """

    statement: str
    order: str | Sequence[str] | None = None
    out: Levels | None = None
    epilogue: Epilogue | None = None
    semiring: str = "plus_times"
    sizes: Mapping[str, int] | None = None
    part: Part | None = None
    base: str | None = None


Item: TypeAlias = Assignment | HostOperation | Reshape


class Program(Runnable):
    """Statements planned for a chip, to run with the tensors that they were compiled for or with
    others of the same shapes.

    A statement may use the results of those before it, which stay as the chip wrote them: wide,
    unless an epilogue makes them narrow.

    Parameters
    ----------
    items : sequence of Assignment, HostOperation or Reshape
        In the order in which they run.
    inputs : mapping of str to array
        The tensors from outside.
    constants : mapping of str to array
        Those that are the same in every run; they are not copied.
    results : sequence of (str, str), optional
        What a run returns, without what this does not need: the name, and the item whose result it
        is; a name may be there several times. By default what no item uses, and then every input
        has to be used.
    samples : mapping of str to array
        What results are for these inputs, where that is known: it decides plans, never values.
    finite : bool
        Values are taken to be far from overflow, so that a weight of 0 counts as none.

    Raises
    ------
    ValueError, TypeError
        If a statement is wrong, or an input is missing or not used; the message names it.
    """

    def __init__(
        self,
        device: Device,
        items: Sequence[Item],
        inputs: Mapping[str, Any],
        *,
        constants: Mapping[str, Any] | None = None,
        results: Sequence[tuple[str, str]] | None = None,
        samples: Mapping[str, Any] | None = None,
        finite: bool = False,
    ) -> None:
        super().__init__(device)
        self._finite = finite
        self._samples = samples or {}
        self._items = [_Item.of(item) for item in items]
        self.inputs = tuple(inputs)
        self._check_names(set(inputs) | set(constants or {}))
        if results is None:
            self._check_used()
            results = [(name, name) for name in self._unused()]
        self.results, self._returned = tuple(name for name, _ in results), dict(results)
        self._items, needed = self._needed()
        constants = {name: x for name, x in (constants or {}).items() if name in needed}
        dtype = device.config.dtype
        # later changes of the user's arrays do not reach the plans
        self._given = {name: Operand(name, deepcopy(x), dtype) for name, x in inputs.items()}
        self._constants = {name: Operand(name, x, dtype) for name, x in (constants or {}).items()}
        self._plans = self._plan(self._given)

    def run(self, **named: Any) -> dict[str, Any]:
        self._reports.value = {}
        inputs = self._inputs(named)
        try:
            values = self._plans.contents.values(inputs)
        except UnplannedError:
            self._plans = self._plan(inputs)
            values = {}
        found, self._reports.value = execute_contents(self._device, self._plans.contents, values)
        return found

    def dense(self) -> "Program":
        """Return the same program without a zero, to compare cycles and energy: inputs, constants
        and results are dense, and zeros of inputs and constants become other numbers. What it
        computes is of no use.
        """
        sources = [item.source for item in self._items]
        kept = complements([s.statement for s in sources if isinstance(s, Assignment)])
        return Program(
            self._device,
            [
                replace(source, out=dense_levels(source.out))
                if isinstance(source, Assignment)
                else source
                for source in sources
            ],
            {name: filled_source(x, kept) for name, x in self._given.items()},
            constants={name: filled_source(x, kept) for name, x in self._constants.items()},
            results=list(self._returned.items()),
            finite=self._finite,
        )

    def save(self, path: str | Path) -> None:
        """Write the program to a file, which `loopnest.load` reads without planning anything again.

        Raises
        ------
        ValueError
            If a step cannot be saved: one of the host that is made of other functions than
            Loopnest's, or a kernel whose loops or memory depend on the run. The message names it.
        """
        write_program(path, replace(self.contents, explanation=str(self)))

    @property
    def contents(self) -> Contents:
        # a run may have planned for others than those that it was compiled for
        planned = self._plans.inputs == self._given
        return (self._plans if planned else self._plan(self._given)).contents

    @property
    def expected(self) -> Mapping[str, float]:
        return self._plans.contents.expected

    @property
    def formats(self) -> Mapping[str, Mapping[str, str]]:
        """What the operands and the result of each statement are stored as, by the name of its
        result (`explain.formats`).
        """
        return {name: formats(planned.steps) for name, planned in self._plans.planned.items()}

    def explain(self) -> Explanation:
        """Return the kernels and what the host does; printed, it shows their loops and cost."""
        return Explanation(self.text, self._plans.steps, self._plans.contents.cuts)

    def __str__(self) -> str:
        return str(self.explain())

    @property
    def text(self) -> str:
        return "; ".join(item.text for item in self._items)

    def _check_names(self, given: Collection[str]) -> None:
        made: set[str] = set()
        for item in self._items:
            for operand in item.operands:
                if operand not in given and operand not in made:
                    raise ValueError(
                        f"operand {operand!r} of {item.written!r} is missing: expected it among "
                        f"the inputs, or a statement before that computes it"
                    )
            if item.result in given or item.result in made:
                kind = "an input" if item.result in given else "computed before"
                raise ValueError(
                    f"{item.written!r}: {item.result!r} is {kind}: expected another name"
                )
            made.add(item.result)

    def _needed(self) -> tuple[list["_Item"], set[str]]:
        """Return the items that results need, and the names of all tensors that do."""
        needed = set(self._returned.values())
        kept = []
        for item in reversed(self._items):
            if item.result in needed:
                kept.append(item)
                needed.update(item.operands)
        return kept[::-1], needed

    def _check_used(self) -> None:
        every = set[str]().union(*(item.operands for item in self._items))
        for name in self.inputs:
            if name not in every:
                raise ValueError(f"input {name!r}: no statement has it")

    def _unused(self) -> tuple[str, ...]:
        """Return the results that no item uses."""
        every = set[str]().union(*(item.operands for item in self._items))
        return tuple(item.result for item in self._items if item.result not in every)

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
        self, item: "_Item", inputs: Mapping[str, Operand], results: Mapping[str, Operand]
    ) -> Prepared:
        """Return a statement with these inputs and the results of those before it."""
        assignment = item.source
        assert isinstance(assignment, Assignment)
        known = {**self._constants, **inputs, **results}
        return prepare(
            self._device.config,
            assignment.statement,
            {name: known[name] for name in item.operands if name != assignment.base},
            semiring=find_semiring(string("semiring", assignment.semiring)),
            order=assignment.order,
            out=assignment.out,
            epilogue=assignment.epilogue,
            sizes=assignment.sizes,
        )

    def _plan(self, inputs: Mapping[str, Operand]) -> "_Plans":
        for operand in inputs.values():
            operand.assume(HEADROOM)
        device, plans = self._device, _Plans(dict(inputs), {}, {}, ())
        known = {**self._constants, **inputs}
        constants = set(self._constants.values())
        reshaped = {i.source.operand for i in self._items if isinstance(i.source, Reshape)}
        last_use = {name: item for item in self._items for name in item.operands}
        for item in self._items:
            source, sample = item.source, self._samples.get(item.result)
            if isinstance(source, Assignment):
                prepared = self._prepared(item, inputs, plans.results)
                for operand in prepared.operands:
                    if operand.known and operand not in constants:
                        operand.assume(HEADROOM)
                planned = build(
                    device.config,
                    prepared,
                    device.memory.latency,
                    as_written=True,
                    row_major=item.result in reshaped or source.part is not None,
                )
                if source.part is not None:
                    base = None if source.base is None else {**known, **plans.results}[source.base]
                    planned = place(planned, source.part, base)
                plans.planned[item.result] = planned
                plans.steps += planned.steps
                found = planned.result
                if isinstance(found, Expected):
                    found.learn(sample, BOUND if self._finite else None)
            elif isinstance(source, HostOperation):
                operands = [{**known, **plans.results}[name] for name in item.operands]
                step = source.step(operands, device.config.dtype, sample)
                plans.steps += (step,)
                found = step.result
            else:
                seen = plans.results.get(source.operand)
                if not isinstance(seen, Expected):
                    raise ValueError(f"{source}: expected the result of a statement")
                found = Reshaped(source.result, seen, source.shape)
            plans.results[item.result] = known[item.result] = found
            for name in item.operands:
                if name in self._constants and last_use[name] is item:
                    self._constants[name].forget_counts()
        returned = [known[own] for own in self._returned.values()]
        plans.steps = scheduled(needed(plans.steps, returned))
        plans.contents = self._contents(plans)
        return plans

    def _contents(self, plans: "_Plans") -> Contents:
        config = self._device.config
        others = {**self._constants, **plans.results}
        bound, layers = [], []
        for item in self._items:
            if item.result not in plans.planned:
                continue
            planned, source = plans.planned[item.result], item.source
            assert isinstance(source, Assignment)
            operands = planned.prepared.operands
            bound.append(
                Bound(source.statement, source.semiring, source.sizes, operands, planned.fixed)
            )
            made = tuple(step.result for step in planned.steps)
            kernels = [step for step in planned.steps if isinstance(step, KernelStep)]
            cycles = sum(step.plan.cycles for step in kernels)
            layers.append(Layer(item.result, str(planned.prepared.statement), made, cycles))
        outcomes = {
            name: outcome(plans.planned[own])
            if own in plans.planned
            else Outcome({**plans.inputs, **others}[own])
            for name, own in self._returned.items()
        }
        stages, cuts = find_stages(
            config,
            plans.steps,
            self._constants.values(),
            {root(outcome.operand) for outcome in outcomes.values()},
        )
        return Contents(
            config=config,
            text=self.text,
            explanation="",
            inputs=plans.inputs,
            others=others,
            bound=bound,
            layers=layers,
            outcomes=outcomes,
            results=self.results,
            stages=stages,
            cuts=cuts,
        )


@dataclass(frozen=True)
class _Item:
    """An item of a program, with its statement if it has one."""

    source: Item
    written: str
    text: str
    result: str
    operands: tuple[str, ...]

    @classmethod
    def of(cls, source: Item) -> "_Item":
        if isinstance(source, Assignment):
            statement = parse(string("statement", source.statement))
            used = {a.tensor: None for a in statement.accesses if a.number is None}
            written = source.statement
            name = statement.result.tensor
            used |= {} if source.base is None else {source.base: None}
            return cls(deepcopy(source), written, str(statement), name, tuple(used))
        operands = source.operands if isinstance(source, HostOperation) else (source.operand,)
        return cls(source, str(source), str(source), source.result, operands)


@dataclass
class _Plans:
    """The plans of a program's statements, by the names of their results, the steps of all items,
    what is known of their results, and the inputs that they were made for.
    """

    inputs: dict[str, Operand]
    planned: dict[str, Planned]
    results: dict[str, Operand]
    steps: tuple[Step, ...]
    contents: Contents = field(init=False)
