"""The statements of operators."""

from collections.abc import Callable, Sequence
from itertools import groupby
from math import prod

import numpy as np
import scipy.sparse as sp

from loopnest_hw.config import COORDINATE_BITS

from .lower import MAX_MODES, Group, Lowering
from .placement import Placed
from .stages import MOVED, Stage
from .values import Value

Emit = Callable[[Lowering, Stage], str]
"""Adds the items of a stage; returns why that is not possible, otherwise nothing."""


def emit(lowering: Lowering, stage: Stage) -> None:
    """Add the items of a stage: statements if kernels compute it, or operators of the host."""
    node = stage.head
    if node is not None and node.operator in MOVED:
        if _move(lowering, stage):
            lowering.placed.append(Placed(node, "view"))
        else:
            lowering.on_host(node, "it moves what is stored")
        return
    found = EMIT.get(stage.operator)
    why = "no kernel computes it"
    if found is not None:
        real = all(_real(lowering, name) for name in (*stage.inputs, stage.result))
        integers = stage.operator in ("embedding", "embedding_bag")
        why = found(lowering, stage) if real or integers else "its tensors are not of real numbers"
    if why:
        for node in stage.nodes:
            lowering.on_host(node, why)


def _real(lowering: Lowering, name: str) -> bool:
    array = lowering.constant(name)
    return lowering.seen[name].real if array is None else array.dtype.kind == "f"


# Arrangement


def _move(lowering: Lowering, stage: Stage) -> bool:
    """Change how a tensor is seen; return whether that is possible."""
    assert stage.head is not None
    node, attributes = stage.head, stage.attributes
    (name,) = node.inputs
    value: Value | None = lowering.value(name)
    assert value is not None
    match node.operator:
        case "transpose":
            value = value.transposed(attributes["axes"])
        case "broadcast":
            value = value.broadcast(attributes["shape"])
        case "slice":
            for axis, start, stop, step in zip(
                *(attributes[key] for key in ("axes", "starts", "stops", "steps")), strict=True
            ):
                start, stop, step = slice(start, stop, step).indices(value.shape[axis])
                value = value.cut(axis % len(value.shape), start, stop, step)
        case "reshape":
            value = value.reshaped(attributes["shape"])
            if value is None and _real(lowering, name):
                lowering.copy(name)
                value = lowering.value(name).reshaped(attributes["shape"])
    if value is None:
        return False
    lowering.define(stage.result, value)
    return True


# Products


def _linear(lowering: Lowering, stage: Stage) -> str:
    x, weight = stage.inputs[:2]
    if len(stage.inputs) == 3:
        return "its bias is computed"
    lowering.one_wide([x, weight])
    rank = len(stage.shape)
    rows = range(rank - 1)
    sizes: dict[str, int] = {}
    product = " * ".join(
        [
            lowering.access(x, [("n", rows), ("i", [rank - 1])], sizes),
            lowering.access(weight, [("o", [0]), ("i", [1])], sizes),
        ]
    )
    lowering.statement(stage, [("n", rows), ("o", [rank - 1])], product, sizes=sizes)
    return ""


def _matmul(lowering: Lowering, stage: Stage) -> str:
    names = stage.inputs
    lowering.one_wide(names)
    shapes = [lowering.shape(name) for name in names]
    vectors = [len(shape) == 1 for shape in shapes]
    batch = len(stage.shape) - 2 + sum(vectors)

    def has(side: int, axis: int) -> bool:
        """Return whether a factor has an axis of the batch: shorter ones lack the first ones."""
        own = axis + len(shapes[side]) - 2 - batch
        return own >= 0 and shapes[side][own] != 1

    def groups(side: int, runs: Sequence[Sequence[int]]) -> list[Group]:
        if vectors[side]:
            return [("k", [0])]
        first = len(shapes[side]) - 2 - batch
        found: list[Group] = [
            (f"z{n}", [axis + first for axis in run])
            for n, run in enumerate(runs)
            if has(side, run[0])
        ]
        rows, columns = ("m", "k") if side == 0 else ("k", "n")
        rank = len(shapes[side])
        return [*found, (rows, [rank - 2]), (columns, [rank - 1])]

    runs = [[*run] for _, run in groupby(range(batch), key=lambda a: (has(0, a), has(1, a)))]
    runs = [run for run in runs if prod(stage.shape[axis] for axis in run) != 1]
    apart = [[axis] for run in runs for axis in run if stage.shape[axis] != 1]
    loops = len(apart) + 3 - sum(vectors)
    if loops <= MAX_MODES and not all(
        lowering.stored(name, groups(side, runs)) for side, name in enumerate(names)
    ):
        runs = apart
    sizes: dict[str, int] = {}
    factors = [lowering.access(name, groups(side, runs), sizes) for side, name in enumerate(names)]
    result: list[Group] = [(f"z{n}", run) for n, run in enumerate(runs)]
    if not vectors[0]:
        result.append(("m", [batch]))
    if not vectors[1]:
        result.append(("n", [len(stage.shape) - 1]))
    lowering.statement(stage, result, " * ".join(factors), sizes=sizes)
    return ""


# Element by element


def _binary(lowering: Lowering, stage: Stage) -> str:
    operator = {"add": "+", "sub": "-", "mul": "*"}[stage.operator]
    if operator == "*":
        lowering.one_wide(stage.inputs)
    return _elementwise(lowering, stage, f" {operator} ")


def _copy(lowering: Lowering, stage: Stage) -> str:
    return _elementwise(lowering, stage, "")


def _elementwise(lowering: Lowering, stage: Stage, operator: str) -> str:
    """Apply an operator to tensors that broadcast: axes that all of them have are one index where
    they are stored as one.
    """
    rank = len(stage.shape)
    shapes = [lowering.shape(name) for name in stage.inputs]

    def kind(axis: int) -> tuple[object, ...]:
        has = (len(s) > rank - 1 - axis and s[axis - rank] != 1 for s in shapes)
        return (*has, axis == stage.feature)

    runs = [[*run] for _, run in groupby(range(rank), key=kind)]
    fit = all(prod(stage.shape[axis] for axis in run) <= 1 << COORDINATE_BITS for run in runs)
    if not (fit and _stored(lowering, stage.inputs, runs, rank)):
        runs = [[axis] for axis in range(rank)]
    runs = [run for run in runs if prod(stage.shape[axis] for axis in run) != 1]
    if len(runs) > MAX_MODES:
        return (
            f"it has {len(runs)} axes that are not stored as fewer: up to {MAX_MODES} are possible"
        )
    letters = [f"i{n}" for n in range(len(runs))]
    sizes: dict[str, int] = {}
    terms = []
    for name, shape in zip(stage.inputs, shapes, strict=True):
        groups = [
            (letter, [axis + len(shape) - rank for axis in run])
            for letter, run in zip(letters, runs, strict=True)
            if run[0] + len(shape) - rank >= 0 and shape[run[0] - rank] != 1
        ]
        terms.append(lowering.access(name, groups, sizes))
    groups = list(zip(letters, runs, strict=True))
    lowering.statement(stage, groups, operator.join(terms), sizes=sizes)
    return ""


def _stored(
    lowering: Lowering, names: Sequence[str], runs: Sequence[Sequence[int]], rank: int
) -> bool:
    """Return whether these axes of a result are stored as one axis in all tensors."""
    for name in names:
        first = len(lowering.shape(name)) - rank
        groups = [("", [axis + first for axis in run if axis + first >= 0]) for run in runs]
        if not lowering.stored(name, groups):
            return False
    return True


# Over axes


def _reduce(lowering: Lowering, stage: Stage) -> str:
    (name,) = stage.inputs
    shape = lowering.shape(name)
    rank = len(shape)
    reduced = {axis % rank for axis in stage.attributes["axes"]}
    kept = [axis for axis in range(rank) if axis not in reduced]
    keepdims = stage.attributes.get("keepdims", False)
    of_result = {axis: axis if keepdims else n for n, axis in enumerate(kept)}

    def kind(axis: int) -> tuple[object, ...]:
        return axis in reduced, of_result.get(axis, -1) == stage.feature

    runs = [[*run] for _, run in groupby(range(rank), key=kind)]
    fit = all(prod(shape[axis] for axis in run) <= 1 << COORDINATE_BITS for run in runs)
    if not (fit and _stored(lowering, [name], runs, rank)):
        runs = [[axis] for axis in range(rank)]
    runs = [run for run in runs if prod(shape[axis] for axis in run) != 1]
    groups = [(f"i{n}", run) for n, run in enumerate(runs)]
    sizes: dict[str, int] = {}
    operand = lowering.access(name, groups, sizes)
    result = [(i, [of_result[a] for a in run]) for i, run in groups if run[0] not in reduced]
    if stage.operator == "mean":
        count = prod(shape[axis] for axis in reduced)
        stage.bias, stage.scale = stage.bias * count, stage.scale / count
    semiring = "max_times" if stage.operator == "max" else "plus_times"
    lowering.statement(stage, result, operand, sizes=sizes, semiring=semiring)
    return ""


# Tables


def _embedding(lowering: Lowering, stage: Stage) -> str:
    *found, table = stage.inputs
    if lowering.constant(table) is None:
        return "its table is computed"
    rows = lowering.shape(table)[0]
    count = prod(stage.shape[:-1])
    operator = "one_hot" if stage.operator == "embedding" else "bags"
    mode = {"mode": stage.attributes.get("mode", "sum")} if operator == "bags" else {}
    # the chip's numbers of one entry in each row, or of weights that are no narrow numbers
    chosen = lowering.host(
        operator,
        [lowering.plain(name) for name in found],
        (count, rows),
        f"{stage.result}_rows",
        attributes={"rows": rows, **mode},
        wide=mode.get("mode") == "mean",
    )
    entries = max(count, prod(lowering.shape(found[0])))
    spread = np.arange(entries)
    lowering.samples[chosen] = sp.csr_array(
        (np.ones(entries), (spread * count // entries, spread * 7919 % rows)), (count, rows)
    )
    rank = len(stage.shape)
    looked = lowering.access(table, [("v", [0]), ("e", [1])], {})
    places: list[Group] = [("n", range(rank - 1)), ("e", [rank - 1])]
    index = "[n,v]" if count != 1 else "[v]"
    chosen = chosen if count != 1 else lowering.reshaped(chosen, (rows,))
    lowering.statement(stage, places, f"{chosen}{index} * {looked}")
    return ""


EMIT: dict[str, Emit] = {
    "linear": _linear,
    "matmul": _matmul,
    "add": _binary,
    "sub": _binary,
    "mul": _binary,
    "copy": _copy,
    "sum": _reduce,
    "mean": _reduce,
    "max": _reduce,
    "embedding": _embedding,
    "embedding_bag": _embedding,
}
