"""Explains a statement: the kernels' loops, cells and tables, and their cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from loopnest_hw.descriptor import CellMode, Op, Reduction, ResultMode

from ..formats.pack import COMPRESSED, DENSE
from ..loops.plan import Plan
from ..nest.nest import Row
from ..report.plain import plain
from .steps import KernelStep, Step

REDUCED = {Reduction.SUM: "sum", Reduction.MIN: "minimum", Reduction.MAX: "maximum"}


@dataclass(frozen=True)
class Explanation:
    """The kernels of a statement, and what the host does; ``print`` shows their loops.

    Attributes
    ----------
    cuts : mapping of int to str
        Why a step of a program is not in the start of the one before it, by its number.
    """

    statement: str
    steps: tuple[Step, ...]
    cuts: Mapping[int, str] = field(default_factory=dict)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The kernels' plans."""
        return tuple(step.plan for step in self.steps if isinstance(step, KernelStep))

    def __str__(self) -> str:
        kernels = len(self.plans)
        lines = [f"{self.statement}   in {kernels} kernels", ""] if kernels > 1 else []
        for n, (step, after) in enumerate(zip(self.steps, (*self.steps[1:], None), strict=True)):
            if n in self.cuts:
                lines += [f"another start: {self.cuts[n]}", ""]
            lines += _kernel(step.plan) if isinstance(step, KernelStep) else [f"host: {step.what}"]
            if isinstance(step, KernelStep) or isinstance(after, KernelStep):
                lines.append("")
        return "\n".join(lines).rstrip("\n")

    def to_dict(self) -> dict[str, Any]:
        """Return the kernels' loops and what they are expected to cost, as ``json`` can write it,
        and what the host does between them.

        Of a loop: its index and size, what it walks, and what its cells do. ``expected`` are
        cycles, multiplies, lines read, entries of the result, and each stage's cycles by itself.
        ``starts`` are the causes of further starts, by what they begin with.
        """
        kernels = [_figures(plan) for plan in self.plans]
        host = [step.what for step in self.steps if not isinstance(step, KernelStep)]
        starts = {self.steps[n].result.name: why for n, why in self.cuts.items()}
        return plain(
            {"statement": self.statement, "kernels": kernels, "host": host, "starts": starts}
        )


def formats(steps: Sequence[Step]) -> dict[str, str]:
    """Return what the operands and the results of kernels are stored as, by name: levels, outermost
    first, such as ``"dense,compressed"``; ``"dense"`` if all of them are.
    """
    found = {}
    for step in steps:
        if not isinstance(step, KernelStep):
            continue
        for operand, stored in zip(step.plan.operands, step.plan.nest.columns, strict=True):
            found[operand.name] = stored.levels
        assert step.result.given is not None
        found[step.result.name], _ = step.result.given
    return {
        name: ",".join(levels) if COMPRESSED in levels else DENSE
        for name, levels in found.items()
        if levels
    }


def _figures(plan: Plan) -> dict[str, Any]:
    """Return what there is to tell of one kernel."""
    result, expected = plan.result, plan.expected
    return {
        "statement": str(plan.statement),
        "order": "".join(plan.loops),
        "loops": [
            {
                "index": row.index,
                "size": row.size,
                "row": row.number,
                "walks": _domain(plan, row),
                "cells": _cells(plan, row),
            }
            for row in plan.nest.rows
            if row.index is not None
        ],
        "stored": plan.stored,
        "lane": _lane(plan),
        "leaf": result.leaf_mode.name.lower(),
        "result": {
            "fibers": result.fibers,
            "span": result.span,
            "compressed": result.compressed,
            "accumulated": result.accumulate,
        },
        "expected": {
            "cycles": plan.cycles,
            "multiplies": expected.multiplies,
            "lines_read": expected.lines,
            "entries": expected.entries,
            "stages": expected.stages,
        },
    }


def _kernel(plan: Plan) -> list[str]:
    """Return the lines of one kernel."""
    statement, result = plan.statement, plan.result
    lines, cells = [str(statement)], []
    for depth, row in enumerate(plan.nest.rows):
        if row.index is not None:
            lines.append(f"{'  ' * depth}for {row.index} in {_domain(plan, row)}")
            cells.append(f"row {row.number}, {row.index}: {_cells(plan, row)}")
    sign = "+=" if statement.summed else "="
    lines.append(f"{'  ' * len(plan.nest.rows)}{statement.result} {sign} {statement.expression}")
    through = "the accumulator" if result.accumulate else "the assembler"
    kind = "compressed" if result.compressed else "dense"
    cost = plan.expected
    return [
        *lines,
        *cells,
        *plan.stored,
        f"lane: {_lane(plan)}",
        f"leaf: {result.leaf_mode.name.lower()}, through {through}, to {result.fibers:,} {kind} "
        f"result fibers of {result.span:,}",
        f"expected: {plan.cycles:,.0f} cycles, {cost.multiplies:,.0f} multiplies, "
        f"{cost.lines:,.0f} lines read, {cost.entries:,.0f} results",
    ]


def _lane(plan: Plan) -> str:
    """Return what a lane of the leaf computes, and the operands that its table requires."""
    lane, ring = plan.nest.lane, plan.semiring
    everything = range(len(plan.nest.columns))
    names = [f"{'-' * lane.negate[c]}{_name(plan, c)}" for c in everything if c != lane.mask]
    if len(names) == 3:
        inner = _operation(ring.op(lane.op2), *names[1:])
        names[1:] = [inner if inner.endswith(")") else f"({inner})"]
    text = names[0] if len(names) == 1 else _operation(ring.op(lane.op1), *names)
    if plan.statement.summed:
        text = f"{REDUCED[ring.reduction]} of {text}"
    return f"{text} where {_kept(plan, plan.nest.rows[-1], everything)}"


def _operation(op: Op, left: str, right: str) -> str:
    if op in (Op.MIN, Op.MAX):
        return f"{op.name.lower()}({left}, {right})"
    return f"{left} {'*' if op is Op.MUL else '+'} {right}".replace("+ -", "- ")


def _domain(plan: Plan, row: Row) -> str:
    """Return the coordinates that a row visits."""
    scanned = [c for c, cell in enumerate(row.cells) if cell.mode is CellMode.SCAN]
    if any(cell.ones for cell in row.cells) or not scanned:
        return f"0..{row.size}{_left_out(plan, row)}"
    return _kept(plan, row, scanned)


def _kept(plan: Plan, row: Row, columns: Sequence[int]) -> str:
    """Return what a row's table keeps: the minimal sets of these columns that must be present,
    besides all others.
    """
    others = sum(1 << c for c in range(len(row.cells)) if c not in columns)
    found: list[set[int]] = []
    for size in range(1, len(columns) + 1):
        for some in combinations(columns, size):
            needed = plan.nest.lane.needs(others | sum(1 << c for c in some))
            if needed and not any(smaller <= set(some) for smaller in found):
                found.append(set(some))
    kept = " | ".join(" & ".join(_name(plan, c) for c in sorted(some)) for some in found)
    left_out = _left_out(plan, row)
    return f"({kept}){left_out}" if left_out and len(found) > 1 else kept + left_out


def _name(plan: Plan, column: int) -> str:
    return plan.nest.columns[column].access.name


def _left_out(plan: Plan, row: Row) -> str:
    """Return what a complemented mask removes from a row."""
    lane = plan.nest.lane
    if lane.mask is None or not lane.complement:
        return ""
    mask = plan.nest.columns[lane.mask]
    return f" - {mask.access.name}" if mask.indices[-1] == row.index else ""


def _cells(plan: Plan, row: Row) -> str:
    """Return what a row joins, if that is more than one fiber, and the mode of each cell."""
    joined = [c for c, cell in enumerate(row.cells) if cell.ones or cell.mode is CellMode.SCAN]
    found = [f"join {_kept(plan, row, joined)}"] if len(joined) > 1 else []
    for column, cell in enumerate(row.cells):
        stored = plan.nest.columns[column]
        does = {CellMode.HOLD: "hold", CellMode.FOLLOW: f"follow, step {cell.step}"}.get(cell.mode)
        if does is None:
            assert cell.level is not None
            blocks = plan.operands[column].counted(stored).blocks(cell.level)
            does = f"scan, {blocks:.1f} blocks a fiber"
        found.append(f"{_name(plan, column)} {'all ones, ' * cell.ones}{does}")
    mode, step = plan.result.modes.get(row.index or "", (ResultMode.HOLD, 0))
    own = "hold" if mode is ResultMode.HOLD else f"{mode.name.lower()}, step {step}"
    return "; ".join([*found, f"{plan.statement.result.name} {own}"])
