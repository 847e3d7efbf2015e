"""Results that are parts of a larger tensor: the chip writes them into their place, or if it cannot
the host puts them there.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from loopnest_hw.config import NumberFormat

from ..expression.expected import Expected
from ..expression.operand import Operand
from ..expression.reshaped import row_major
from ..formats.pack import COMPRESSED
from ..formats.tensor import Tensor
from ..named import named
from ..nest.result import Part, ResultPlan
from .build import Planned
from .operation import whole
from .steps import HostStep, KernelStep


def place(planned: Planned, part: Part, base: Operand | None) -> Planned:
    """Return a statement whose result is put into its place in a tensor: in ``base``, or among
    zeros.

    Raises
    ------
    ValueError
        If it has another shape than the part, or none of the tensor's shape is the base.
    """
    step = planned.steps[-1]
    found = step.result
    ends = [part.first[mode] + size for mode, size in zip(part.modes, found.shape, strict=True)]
    if any(end > part.shape[mode] for mode, end in zip(part.modes, ends, strict=True)):
        raise ValueError(f"{found.name} of shape {found.shape}: expected a part of {part.shape}")
    if base is not None and base.shape != part.shape:
        raise ValueError(f"{base.name} has shape {base.shape}: expected {part.shape}")
    bounds = [(0.0, 0.0), found.bounds, *([] if base is None else [base.bounds])]
    result = Expected(
        found.name,
        part.shape,
        found.dtype,
        None,
        layout=row_major(len(part.shape)),
        wide=found.wide,
        bounds=(min(low for low, _ in bounds), max(high for _, high in bounds)),
        in_memory=True,
    )
    if isinstance(step, KernelStep) and step.base is None:
        written = _written(step, part, base)
        if written is not None:
            plan = replace(step.plan, result=written)
            own = KernelStep(plan, step.epilogue, result, step.instead, base)
            return replace(planned, steps=(*planned.steps[:-1], own))
    operands = (found,) if base is None else (found, base)
    apply = partial(put, part, found.dtype, found.wide)
    own_step = HostStep(f"put {found.name} into its place", operands, result, apply)
    return replace(planned, steps=(*planned.steps, own_step))


def _written(step: KernelStep, part: Part, base: Operand | None) -> ResultPlan | None:
    """Return how the kernel writes the part; None if it cannot.

    Nothing initialises the part in a base: it has to visit all of it, and where an epilogue drops
    zeros, the base has to be written in each run.
    """
    plan = step.plan
    if step.epilogue is not None and step.epilogue.reads_memory:
        return None  # its arrays are read by the positions of fibers
    if base is not None:
        # an epilogue that makes 0 another value fills the fibers that a mask keeps
        filled = plan.result.full and plan.mask is None
        visited = filled or not any(COMPRESSED in c.levels for c in plan.nest.columns)
        stale = base.known and step.epilogue is not None
        if base.wide != step.result.wide or base.sparse or stale or not visited:
            return None
    return plan.result.placed(plan.statement.result.indices, plan.sizes, part)


@named
def put(part: Part, dtype: NumberFormat, wide: bool, found: Operand, *bases: Operand) -> Operand:
    """Return the tensor with a part of it."""
    tensor = whole(bases[0]).copy() if bases else np.zeros(part.shape, whole(found).dtype)
    sizes = dict(zip(part.modes, found.shape, strict=True))
    at = tuple(slice(f, f + sizes.get(mode, 1)) for mode, f in enumerate(part.first))
    tensor[at] = whole(found).reshape([sizes.get(mode, 1) for mode in range(len(part.shape))])
    source = Tensor.from_dense(tensor, dtype=dtype, wide=wide)
    return Operand(found.name, source, dtype)
