"""A statement to its result: one kernel where one can compute it, several where one can't."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import Op
from loopnest_hw.registers import ErrorCode

from .backends import ChipError
from .epilogue import Epilogue
from .fuse import find_fusion
from .notation import Statement
from .operand import Operand
from .pack import COMPRESSED
from .plan import LATENCY, Plan, default_levels, index_sizes, make_plan
from .semiring import PLUS_TIMES, Semiring
from .split import OneKernelError, Splitter
from .tensor import Tensor, sparse_levels


@dataclass(frozen=True)
class Task:
    """A kernel to run: its plan, its result's levels, and what is done to that on its way out.

    ``final``: it is the statement's last one.
    """

    plan: Plan
    levels: tuple[str, ...]
    epilogue: Epilogue | None
    final: bool


def evaluate(
    config: ChipConfig,
    statement: Statement,
    named: dict[str, Operand],
    *,
    run: Callable[[Task], Tensor],
    order: Sequence[str] | None = None,
    levels: Sequence[str] | None = None,
    epilogue: Epilogue | None = None,
    latency: int = LATENCY,
    semiring: Semiring = PLUS_TIMES,
    final: bool = True,
) -> Tensor:
    """Compute a statement of these operands.

    Parameters
    ----------
    named : dict
        The operands by name; the results of parts are added.
    run : callable
        Runs a kernel and returns its result.
    order : sequence of str, optional
        The loops; each kernel takes those that it has.
    levels : sequence of str, optional
        The result's; by default the operands decide (`plan.default_levels`).
    epilogue : Epilogue, optional
        Of the result. Parts have none.
    latency : int
        Of the memory, in cycles.
    semiring : Semiring
        The operands are as `Semiring.prepare` returns them.
    final : bool
        Whether the last kernel is that of the whole statement.

    Raises
    ------
    OneKernelError
        If no number of kernels can.
    """
    operands = [named[access.name] for access in statement.accesses]
    chosen = default_levels(statement, operands) if levels is None else tuple(levels)
    sizes = index_sizes(statement, operands)
    wanted: dict[str, Any] = {
        "compressed": COMPRESSED in chosen,
        "full": epilogue is not None and not (epilogue.keeps_zero and semiring.zero == 0),
        "latency": latency,
        "semiring": semiring,
    }
    loops = None if order is None else [i for i in order if i in statement.indices]
    try:
        plan = make_plan(config, statement, operands, order=loops, **wanted)
    except OneKernelError:
        names = (n for n in map("part{}".format, count(1)) if n not in named)
        splitter = Splitter(
            operands=config.operands,
            sizes=sizes,
            wide=lambda a: named[a.name].wide and semiring.multiply is Op.MUL,
            name=lambda: next(names),
        )
        parts = splitter.split(statement)
        # a bias or scale for each element has the shape that the result has, not the fused one
        fused = not parts and not (epilogue is not None and epilogue.reads_memory)
        fusion = find_fusion(statement, sizes) if fused else None
        if parts is None and fusion is None:
            raise
    else:
        try:
            return run(Task(plan, chosen, epilogue, final))
        except ChipError as error:
            # the estimate was too low: another order has to do
            if error.code is not ErrorCode.SLOTS or order is not None:
                raise
            try:
                plan = make_plan(config, statement, operands, replayable=True, **wanted)
            except OneKernelError:
                raise error from None
            return run(Task(plan, chosen, epilogue, final))
    if fusion is not None:
        result = evaluate(
            config,
            fusion.statement(statement),
            {a.name: fusion.operand(a, named[a.name]) for a in statement.accesses},
            order=None if order is None else fusion.loops(order),
            levels=fusion.levels(statement.result, chosen),
            epilogue=epilogue,
            latency=latency,
            semiring=semiring,
            final=final,
            run=run,
        )
        return fusion.unfuse(statement.result, result, sizes).convert(chosen)
    assert parts is not None
    for part in parts.parts:
        result = evaluate(
            config,
            part,
            named,
            order=order,
            # nothing stands for a zero that is not 0: it is left out
            levels=None if semiring.zero == 0 else sparse_levels(len(part.result.indices)),
            latency=latency,
            semiring=semiring,
            final=False,
            run=run,
        )
        named[part.result.name] = Operand(part.result.name, result, config.dtype)
    return evaluate(
        config,
        parts.rest,
        named,
        order=order,
        levels=chosen,
        epilogue=epilogue,
        latency=latency,
        semiring=semiring,
        final=final,
        run=run,
    )


def pack_operands(plan: Plan) -> tuple[Tensor, ...]:
    """Pack the plan's operands; one that is used twice alike is packed once."""
    packed: dict[Any, Tensor] = {}
    found = []
    for operand, stored in zip(plan.operands, plan.nest.columns, strict=True):
        key = (id(operand.source), stored.packing)
        if key not in packed:
            packed[key] = operand.pack(stored)
        found.append(packed[key])
    return tuple(found)
