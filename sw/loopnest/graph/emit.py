"""The statements of operators."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from math import prod

import numpy as np
import scipy.sparse as sp

from loopnest_hw.config import COORDINATE_BITS

from .accesses import Group
from .builder import MAX_MODES
from .emit_images import emit_images
from .emit_places import concat, pad
from .factors import TOO_LARGE
from .lower import MOVES, Lowering
from .placement import COPIES, Placed
from .stages import MOVED, Stage
from .tensors import Scale

Emit = Callable[[Lowering, Stage], str]
"""Adds the items of a stage; returns why that is not possible, otherwise nothing."""

Access = Callable[[str, int], str]
"""Returns the access of a tensor on a side of an operator."""


NUMBERS = {"copy", "add", "sub", "mul", "max", "sum", "mean"}
"""Operators that the host computes instead of an int8 chip, where they make one number of numbers,
as a scale is that a model computes, or of what only the host has.
"""


def emit(lowering: Lowering, stage: Stage) -> None:
    """Add the items of a stage: statements if kernels compute it, or operators of the host."""
    node = stage.head
    if node is not None and node.operator in MOVED:
        copied = lowering.move(node)
        if copied is None:
            lowering.on_host(node, MOVES)
        elif copied:
            lowering.placed.append(Placed(node, "chip", COPIES, copied))
        else:
            lowering.placed.append(Placed(node, "view"))
        return
    real = all(lowering.real(name) for name in (*stage.inputs, stage.result))
    alone = ""
    if real and stage.operator in NUMBERS and lowering.is_number(stage):
        alone = "it is one number, which an int8 chip would round"
    if 0 in stage.shape or any(0 in lowering.shape(name) for name in stage.inputs):
        alone = "it has no elements"
    if alone:
        for node in stage.nodes:
            lowering.on_host(node, alone)
        return
    if lowering.integers and real:
        _check_numbers(lowering, stage)
    why = emit_images(lowering, stage) if real else None
    found = EMIT.get(stage.operator)
    if why is None and found is not None:
        indexed = stage.operator in ("embedding", "embedding_bag")
        why = found(lowering, stage) if real or indexed else "its tensors are not of real numbers"
    if why is None:
        why = "no kernel computes it"
    if why:
        for node in stage.nodes:
            lowering.on_host(node, why)


def _check_numbers(lowering: Lowering, stage: Stage) -> None:
    """Check that no weights of a stage are NaN, which integers cannot be."""
    if stage.operator not in COMPUTED:
        return
    for node in stage.nodes:
        for name in node.inputs:
            array = lowering.constant(name)
            values = array.data if sp.issparse(array) else array
            real = isinstance(values, np.ndarray) and values.dtype.kind == "f"
            if real and np.isnan(np.min(values, initial=0)):
                raise ValueError(f"{name}: expected finite weights for an int8 chip")


# Products


def _linear(lowering: Lowering, stage: Stage) -> str:
    if len(stage.inputs) == 3:
        return "its bias is computed"
    lowering.one_wide(stage.inputs)
    x, unit = lowering.factor(stage.inputs[0])
    weight, own = lowering.factor(stage.inputs[1], 0)
    if why := lowering.too_wide((x, weight), lowering.shape(weight)[1]):
        return why
    rank = len(stage.shape)
    rows = range(rank - 1)
    sizes: dict[str, int] = {}
    walked: list[list[Group]] = [[("n", rows), ("i", [rank - 1])], [("o", [0]), ("i", [1])]]
    product = lowering.product(
        (x, weight), lambda name, side: lowering.access(name, walked[side], sizes)
    )
    groups: list[Group] = [("n", rows), ("o", [rank - 1])]
    lowering.statement(stage, groups, product, unit=unit * own, sizes=sizes)
    return ""


def _matmul(lowering: Lowering, stage: Stage) -> str:
    lowering.one_wide(stage.inputs)
    factors = [lowering.factor(name) for name in stage.inputs]
    names = [name for name, _ in factors]
    if why := lowering.too_wide(names, lowering.shape(names[0])[-1]):
        return why
    shapes = [lowering.shape(name) for name in stage.inputs]
    vectors = [len(shape) == 1 for shape in shapes]
    batch = len(stage.shape) - 2 + sum(vectors)

    def has(side: int, axis: int) -> bool:
        """Return whether a factor has an axis of the batch: shorter ones lack the first ones."""
        own = axis + len(shapes[side]) - 2 - batch
        return own >= 0 and shapes[side][own] != 1

    def groups(side: int, runs: Sequence[Sequence[int]]) -> list[Group]:
        if vectors[side]:
            return [("k", [0])]
        rank = len(shapes[side])
        found: list[Group] = [
            (f"z{n}", [axis + rank - 2 - batch for axis in run])
            for n, run in enumerate(runs)
            if has(side, run[0])
        ]
        rows, columns = ("m", "k") if side == 0 else ("k", "n")
        return [*found, (rows, [rank - 2]), (columns, [rank - 1])]

    runs = [[*run] for _, run in groupby(range(batch), key=lambda a: (has(0, a), has(1, a)))]
    runs = [run for run in runs if prod(stage.shape[axis] for axis in run) != 1]
    apart = [[axis] for run in runs for axis in run if stage.shape[axis] != 1]
    loops = len(apart) + 3 - sum(vectors)
    if loops <= MAX_MODES and not all(
        lowering.stored(name, groups(side, runs)) for side, name in enumerate(names)
    ):
        runs = apart
    modes = len(runs) + 2 - sum(vectors)
    if modes > MAX_MODES:
        return f"its {modes} modes are more than {MAX_MODES}"
    sizes: dict[str, int] = {}
    product = lowering.product(
        names, lambda name, side: lowering.access(name, groups(side, runs), sizes)
    )
    result: list[Group] = [(f"z{n}", run) for n, run in enumerate(runs)]
    if not vectors[0]:
        result.append(("m", [batch]))
    if not vectors[1]:
        result.append(("n", [len(stage.shape) - 1]))
    unit = factors[0][1] * factors[1][1]
    lowering.statement(stage, result, product, unit=unit, sizes=sizes)
    return ""


# Element by element


def _sum(lowering: Lowering, stage: Stage) -> str:
    unit = lowering.sum_scale(stage.inputs)
    if lowering.too_large(stage.inputs, unit):
        return TOO_LARGE
    names = [lowering.term(name, unit) for name in stage.inputs]
    operator = " + " if stage.operator == "add" else " - "

    def joined(access: Access) -> str:
        return operator.join(access(name, side) for side, name in enumerate(names))

    return _elementwise(lowering, stage, names, joined, unit)


def _product(lowering: Lowering, stage: Stage) -> str:
    if why := lowering.too_coarse(stage.inputs):
        return why
    lowering.one_wide(stage.inputs)
    factors = [lowering.factor(name) for name in stage.inputs]
    names, unit = [name for name, _ in factors], factors[0][1] * factors[1][1]
    if why := lowering.too_wide(names, 1):
        return why
    return _elementwise(lowering, stage, names, partial(lowering.product, names), unit)


def _copy(lowering: Lowering, stage: Stage) -> str:
    (name,) = stage.inputs
    if stage.rounded and lowering.host_has(name):
        return "only the host has what it rounds"
    more, unit = lowering.finer(stage)
    return _elementwise(lowering, stage, [name], lambda access: more + access(name, 0), unit)


def _elementwise(
    lowering: Lowering,
    stage: Stage,
    names: Sequence[str],
    expression: Callable[[Access], str],
    unit: Scale,
) -> str:
    """Apply an operator to tensors that broadcast: axes that all of them have are one index where
    they are stored as one.

    Parameters
    ----------
    expression : callable
        Returns the expression of the accesses.
    """
    rank = len(stage.shape)
    shapes = [lowering.shape(name) for name in names]

    def kind(axis: int) -> tuple[object, ...]:
        has = (len(s) > rank - 1 - axis and s[axis - rank] != 1 for s in shapes)
        return (*has, axis == stage.feature)

    def groups(shape: Sequence[int], runs: Sequence[Sequence[int]]) -> list[Group]:
        first = len(shape) - rank
        return [
            (f"i{n}", [axis + first for axis in run])
            for n, run in enumerate(runs)
            if run[0] + first >= 0 and shape[run[0] + first] != 1
        ]

    whole = [axis for axis in range(rank) if stage.shape[axis] != 1]
    runs = [[*run] for _, run in groupby(whole, key=kind)]
    small = all(prod(stage.shape[axis] for axis in run) <= 1 << COORDINATE_BITS for run in runs)
    if not small or not all(
        lowering.stored(name, groups(shape, runs))
        for name, shape in zip(names, shapes, strict=True)
    ):
        runs = [[axis] for axis in whole]
    if len(runs) == 1 and len(runs[0]) > 1 and not stage.keeps_zero:
        # every element is visited, which takes a slot: those of one row at a time
        runs = [runs[0][:-1], runs[0][-1:]]
    if len(runs) > MAX_MODES:
        return f"its {len(runs)} axes are not stored as {MAX_MODES} or fewer"
    sizes: dict[str, int] = {}
    walked = set[str]()
    for name, shape in zip(names, shapes, strict=True):
        own = groups(shape, runs)
        if lowering.constant(name) is None and lowering.stored(name, own):
            own = [(i, axes) for i, axes in own if set(axes) & set(lowering.on_chip(name).axes)]
        walked |= {index for index, _ in own}
    ones, result = "", []
    for n, run in enumerate(runs):
        index = f"i{n}"
        if index not in walked and stage.feature in run:  # the epilogue tells its elements apart
            array = np.ones(prod(stage.shape[axis] for axis in run), np.float32)
            ones = f" * {lowering.build.add_constant('ones', array)}[{index}]"
            walked.add(index)
        # the result repeats along what all operands do
        result += [(index, run)] if index in walked else []

    def access(name: str, side: int) -> str:
        found = lowering.access(name, groups(shapes[side], runs), sizes)
        return found + ones if side == 0 else found

    lowering.statement(stage, result, expression(access), unit=unit, sizes=sizes)
    return ""


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

    def groups(runs: Sequence[Sequence[int]]) -> list[Group]:
        return [(f"i{n}", run) for n, run in enumerate(runs)]

    whole = [axis for axis in range(rank) if shape[axis] != 1]
    runs = [[*run] for _, run in groupby(whole, key=kind)]
    small = all(prod(shape[axis] for axis in run) <= 1 << COORDINATE_BITS for run in runs)
    if not small or not lowering.stored(name, groups(runs)):
        runs = [[axis] for axis in whole]
    if len(runs) > MAX_MODES and lowering.constant(name) is None and lowering.on_chip(name).wide:
        # the host takes those that are narrow apart
        return f"its {len(runs)} modes are more than {MAX_MODES}"
    sizes: dict[str, int] = {}
    operand = lowering.access(name, groups(runs), sizes)
    result = [
        (index, [of_result[axis] for axis in run])
        for index, run in groups(runs)
        if run[0] not in reduced
    ]
    if stage.operator == "mean":
        count = prod(shape[axis] for axis in reduced)
        stage.bias, stage.scale = stage.bias * count, stage.scale / count
    semiring = "max_times" if stage.operator == "max" else "plus_times"
    unit = lowering.scale(name)
    lowering.statement(stage, result, operand, unit=unit, sizes=sizes, semiring=semiring)
    return ""


# Tables


def _embedding(lowering: Lowering, stage: Stage) -> str:
    bags = stage.operator == "embedding_bag"
    if bags:
        ids, offsets, table, *weights = stage.inputs
        found = [ids, offsets, *weights]
    else:
        *found, table = stage.inputs
        weights = []
    mode = stage.attributes.get("mode", "sum")
    if mode == "max":
        return "no kernel takes the maximum of rows"
    if lowering.constant(table) is None:
        return "its table is computed"
    weighted = mode == "mean" or bool(weights)
    if lowering.integers and weighted:
        return "an int8 chip has no weights of rows"
    rows = lowering.shape(table)[0]
    count = prod(stage.shape[:-1])
    chosen = lowering.build.host(
        "bags" if bags else "one_hot",
        [lowering.plain(name) for name in found],
        (count, rows),
        f"{stage.result}_rows",
        {**stage.attributes, "rows": rows},
        wide=weighted,
    )
    entries = max(count, prod(lowering.shape(found[0])))
    spread = np.arange(entries)
    lowering.build.samples[chosen] = sp.csr_array(
        (np.ones(entries), (spread * count // entries, spread * 7919 % rows)), (count, rows)
    )
    rank = len(stage.shape)
    weight, unit = lowering.factor(table)
    looked = lowering.access(weight, [("v", [0]), ("e", [1])], {})
    index = "[n,v]" if count != 1 else "[v]"
    chosen = chosen if count != 1 else lowering.build.reshaped(chosen, (rows,))
    groups: list[Group] = [("n", range(rank - 1)), ("e", [rank - 1])]
    lowering.statement(stage, groups, f"{chosen}{index} * {looked}", unit=unit)
    return ""


EMIT: dict[str, Emit] = {
    "linear": _linear,
    "matmul": _matmul,
    "add": _sum,
    "sub": _sum,
    "mul": _product,
    "copy": _copy,
    "sum": _reduce,
    "mean": _reduce,
    "max": _reduce,
    "concat": concat,
    "pad": pad,
    "embedding": _embedding,
    "embedding_bag": _embedding,
}

COMPUTED = {*EMIT, "conv", "max_pool", "avg_pool"}
"""Operators that kernels compute."""
