"""Evaluates a statement: with one kernel if one can compute it, otherwise with several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import prod
from typing import Any

import numpy as np

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import Op
from loopnest_hw.format import WORD_BYTES
from loopnest_hw.registers import ErrorCode

from .contraction.choose import Contraction
from .contraction.price import Pricer
from .contraction.rewrite import may_regroup
from .epilogue import Epilogue
from .expression.compact import find_compaction
from .expression.fuse import Fusion, find_fusion
from .expression.notation import Access, Binary, Expression, Negate, Statement, named_apart
from .expression.operand import Operand
from .expression.semiring import PLUS_TIMES, Semiring
from .expression.slices import MAX_SLICES, Slice, join
from .expression.split import (
    OneKernelError,
    Splitter,
    factors_of,
    is_group,
    product_of,
    terms_of,
)
from .formats.pack import COMPRESSED, DENSE
from .formats.tensor import Tensor, sparse_levels
from .kernel.backends import ChipError
from .loops.plan import LATENCY, Plan, default_levels, index_sizes, make_plan
from .memory import capacity, check_result, refusal, result_bytes


@dataclass(frozen=True)
class Task:
    """A kernel to run: its plan, its result's levels, and its epilogue.

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
        The operands by name; intermediates are added.
    run : callable
        Runs a kernel and returns its result.
    order : sequence of str, optional
        The loops; each kernel takes those that it has.
    levels : sequence of str, optional
        The result's levels; by default the operands determine them (`plan.default_levels`).
    epilogue : Epilogue, optional
        Of the result; intermediates have none.
    latency : int
        Of the memory, in cycles.
    semiring : Semiring
        The operands are as `Semiring.prepare` returns them.
    final : bool
        Whether the last kernel is that of the whole statement.

    Raises
    ------
    OneKernelError
        If no sequence of kernels can compute it.
    """
    operands = [named[access.name] for access in statement.accesses]
    chosen = default_levels(statement, operands) if levels is None else tuple(levels)
    sizes = index_sizes(statement, operands)
    compaction = None
    if epilogue is None or (
        epilogue.keeps_zero and not epilogue.reads_memory and semiring.zero == 0
    ):
        compaction = find_compaction(statement, named, sizes)
    if compaction is None:
        evaluation = _Evaluation(config, named, run, order, latency, semiring, set())
        return evaluation.result(_Goal(statement, chosen, epilogue, final))
    shape = tuple(sizes[i] for i in statement.result.indices)
    if COMPRESSED not in chosen:
        check_result(str(statement), shape, WORD_BYTES * prod(shape))
    evaluation = _Evaluation(config, compaction.named, run, order, latency, semiring, set())
    result = evaluation.result(_Goal(compaction.statement, chosen, epilogue, final))
    return compaction.expand(result, shape, chosen, semiring)


@dataclass(frozen=True)
class _Goal:
    """A result to compute: its statement, its levels, and its epilogue.

    ``final``: its last kernel is that of the whole statement. ``whole``: a product is not taken
    apart, unless one kernel can't compute it.
    """

    statement: Statement
    levels: tuple[str, ...]
    epilogue: Epilogue | None = None
    final: bool = False
    whole: bool = False

    def task(self, plan: Plan) -> Task:
        """Return the kernel that computes it by this plan."""
        return Task(plan, self.levels, self.epilogue, self.final)


@dataclass(frozen=True)
class _Evaluation:
    """State common to all kernels of a statement; intermediates are added to ``named``.

    ``taken``: the names of its intermediates, including those still to be computed. ``pieces``: the
    number of parts into which the statement was halved.
    """

    config: ChipConfig
    named: dict[str, Operand]
    run: Callable[[Task], Tensor]
    order: Sequence[str] | None
    latency: int
    semiring: Semiring
    taken: set[str]
    pieces: int = 1

    def result(self, goal: _Goal) -> Tensor:
        """Return the result of a statement of the named operands."""
        statement, epilogue = goal.statement, goal.epilogue
        operands = [self.named[access.name] for access in statement.accesses]
        keeps_zero = epilogue is None or (epilogue.keeps_zero and self.semiring.zero == 0)
        if not keeps_zero and self.semiring.zero != 0 and any(o.sparse for o in operands):
            # visiting the whole result would treat an operand's absent entries as 0
            return self._after(goal)
        group = self._splitter(statement).grouped(statement)
        if group is not None:
            for part in group.parts:
                self._part(part)
            return self.result(replace(goal, statement=group.rest))
        if not goal.whole:
            found = self._contracted(goal, full=not keeps_zero)
            if found is not None:
                return found
        loops = None if self.order is None else [i for i in self.order if i in statement.indices]
        # without an epilogue the pattern of a compressed result is that of its terms
        skip_zeros = COMPRESSED not in goal.levels or epilogue is not None

        def plan(
            order: Sequence[str] | None, *, replayable: bool = False, relaxed: bool = False
        ) -> Plan:
            return make_plan(
                self.config,
                statement,
                operands,
                order=order,
                compressed=COMPRESSED in goal.levels,
                full=not keeps_zero,
                latency=self.latency,
                replayable=replayable,
                relaxed=relaxed,
                skip_zeros=skip_zeros,
                semiring=self.semiring,
            )

        try:
            first = plan(loops)
        except OneKernelError as error:
            found = self._several(goal, apart=not goal.whole)
            if found is not None:
                return found
            try:
                first = plan(loops, relaxed=True)
            except OneKernelError:
                found = self._several(goal) if goal.whole else None
                if found is not None:
                    return found
                raise error from None
        self._check_memory(first, goal)
        try:
            return self.run(goal.task(first))
        except ChipError as error:
            if error.code is not ErrorCode.SLOTS:
                raise
            if self.order is None:
                # the estimate was too low: try another order
                try:
                    other = plan(None, replayable=True, relaxed=True)
                except OneKernelError:
                    pass
                else:
                    return self.run(goal.task(other))
            halves = self._halves(first, goal)
            if halves is None:
                raise
            return halves

    def _splitter(self, statement: Statement) -> Splitter:
        sizes = self._sizes(statement)

        def ones(index: str) -> Access:
            name = self._name("ones")
            source = np.full(sizes[index], self.semiring.one, np.float32)
            self.named[name] = Operand(name, source, self.config.dtype)
            return Access(name, (index,))

        return Splitter(
            operands=self.config.operands,
            sizes=sizes,
            wide=lambda a: self.named[a.name].wide and self.semiring.multiply is Op.MUL,
            name=self._name,
            ones=ones,
            scalars=self.semiring.zero == 0,
        )

    def _contracted(self, goal: _Goal, *, full: bool) -> Tensor | None:
        """Return the result of a product of three or more factors in the kernels that are expected
        to take the fewest cycles; None where that is one, and of any other statement.
        """
        statement = goal.statement
        term, *others = terms_of(statement.expression)
        factors = factors_of(term.expression)
        accesses = [factor for factor in factors if isinstance(factor, Access)]
        if others or self.order is not None or is_group(term.expression):
            return None
        if len(factors) < 3 or len(accesses) < len(factors):
            return None
        masks = () if statement.mask is None else (statement.mask.access,)
        operands = [self.named[access.name] for access in (*accesses, *masks)]
        if not may_regroup(self.semiring, operands[: len(accesses)]):
            return None
        compressed, limit = COMPRESSED in goal.levels, capacity()
        contraction = Contraction(
            Pricer(self.config, self.latency, self.semiring),
            replace(statement, expression=product_of(accesses)),
            operands,
            compressed=compressed,
            full=full,
            skip_zeros=not compressed or goal.epilogue is not None,
            memory=limit,
        )
        parts = contraction.choose()
        if parts is None:
            if contraction.refused is not None:
                raise ValueError(refusal(*contraction.refused, limit))
            return None
        named: dict[frozenset[int], Access] = {
            frozenset([n]): access for n, access in enumerate(accesses)
        }
        for part in parts:
            product = product_of([named[node] for node in part.factors])
            if part is parts[-1]:
                break
            result = named[part.node] = Access(self._name(), part.kept)
            levels = sparse_levels(len(part.kept)) if part.compressed else (DENSE,) * len(part.kept)
            self._part(Statement(result, product), levels, whole=True)
        expression = Negate(product) if term.negate else product
        return self.result(
            replace(goal, statement=replace(statement, expression=expression), whole=True)
        )

    def _check_memory(self, plan: Plan, goal: _Goal) -> None:
        """Refuse a kernel whose result takes more memory than there is."""
        shape = tuple(plan.sizes[i] for i in goal.statement.result.indices)
        check_result(str(goal.statement), shape, result_bytes(plan))

    def _several(self, goal: _Goal, *, apart: bool = True) -> Tensor | None:
        """Return the result of a statement that one kernel cannot compute; None if several cannot,
        either. ``apart``: it may be taken apart.
        """
        statement, epilogue = goal.statement, goal.epilogue
        sizes = self._sizes(statement)
        splitter = self._splitter(statement)
        split = splitter.split(statement) if apart else None
        if split is not None:
            for part in split.parts:
                self._part(part)
            return self.result(replace(goal, statement=split.rest))
        too_many = len(statement.indices) > self.config.rows
        if epilogue is not None and epilogue.reads_memory:
            # its shape is that of the whole result, not that of a fused result or a slice
            if isinstance(statement.expression, Access) or not too_many:
                return None
            return self._after(goal)
        fusion = find_fusion(statement, sizes)
        if fusion is not None:
            return self._fused(fusion, goal)
        if not too_many:
            return None
        split = splitter.reduce(statement)
        if split is None:
            return self._one_by_one(goal)
        for part in split.parts:
            self._part(part)
        return self.result(replace(goal, statement=split.rest))

    def _fused(self, fusion: Fusion, goal: _Goal) -> Tensor:
        """Return the result with some indices fused."""
        sizes, levels = self._sizes(goal.statement), goal.levels
        statement, of = named_apart(goal.statement)
        fused = replace(
            self,
            named={a.name: fusion.operand(a, self.named[of[a.name]]) for a in statement.accesses},
            order=None if self.order is None else fusion.loops(self.order),
        )
        result = fused.result(
            replace(
                goal,
                statement=fusion.statement(statement),
                levels=fusion.levels(statement.result, levels),
            )
        )
        return fusion.unfuse(statement.result, result, sizes).convert(levels)

    def _one_by_one(self, goal: _Goal) -> Tensor | None:
        """Return the result by slices of single coordinates of the smallest index; None if there
        are too many.
        """
        statement = goal.statement
        sizes = self._sizes(statement)
        index = min(statement.indices, key=lambda i: sizes[i])
        kept = index in statement.result.indices
        if not 0 < sizes[index] <= MAX_SLICES or not (kept or goal.epilogue is None):
            return None
        slices = [Slice(index, n, n + 1, gone=True) for n in range(sizes[index])]
        if kept:
            return self._joined(goal, slices)
        parts = [replace(statement.result, name=self._name()) for _ in slices]
        of_part = _Goal(statement, goal.levels)
        if self.semiring.zero != 0:
            of_part = replace(of_part, levels=sparse_levels(len(statement.result.indices)))
        for part, result in zip(slices, parts, strict=True):
            found = self._slice(part, of_part)
            self.named[result.name] = Operand(result.name, found, self.config.dtype)
        total: Expression = parts[0]
        for result in parts[1:]:
            total = Binary("+", total, result)
        return self.result(replace(goal, statement=Statement(statement.result, total)))

    def _halves(self, plan: Plan, goal: _Goal) -> Tensor | None:
        """Return the result of a kernel with too few slots, in halves of the result's largest
        index; None if there is none to halve.
        """
        pieces = 2 * self.pieces
        epilogue = goal.epilogue
        if pieces > MAX_SLICES or (epilogue is not None and epilogue.reads_memory):
            return None
        sizes = self._sizes(plan.statement)
        index = max(plan.result.key_loops, key=lambda i: sizes[i], default=None)
        if index is None or sizes[index] < 2:
            return None
        half = sizes[index] // 2
        slices = [Slice(index, 0, half), Slice(index, half, sizes[index])]
        halved = replace(self, pieces=pieces)
        return halved._joined(replace(goal, statement=plan.statement), slices)

    def _joined(self, goal: _Goal, slices: Sequence[Slice]) -> Tensor:
        """Return the result, joined from slices along one of its indices."""
        found = [
            (part, self._slice(part, replace(goal, final=goal.final and part is slices[-1])))
            for part in slices
        ]
        return join(goal.statement, self._sizes(goal.statement), goal.levels, found)

    def _slice(self, part: Slice, goal: _Goal) -> Tensor:
        """Return the result of a slice of a statement."""
        sizes = self._sizes(goal.statement)
        statement, of = named_apart(goal.statement)
        cut = replace(
            self,
            named={
                part.access(a).name: part.operand(a, self.named[of[a.name]], sizes)
                for a in statement.accesses
            },
        )
        return cut.result(
            replace(
                goal,
                statement=part.statement(statement),
                levels=part.levels(statement.result, goal.levels),
            )
        )

    def _sizes(self, statement: Statement) -> dict[str, int]:
        return index_sizes(statement, [self.named[a.name] for a in statement.accesses])

    def _part(
        self, part: Statement, levels: tuple[str, ...] | None = None, *, whole: bool = False
    ) -> None:
        """Compute an intermediate, and add it to the operands."""
        if levels is None:
            operands = [self.named[access.name] for access in part.accesses]
            levels = default_levels(part, operands)
            if self.semiring.zero != 0:  # no entry represents that zero, so it is omitted
                levels = sparse_levels(len(part.result.indices))
        result = self.result(_Goal(part, levels, whole=whole))
        self.named[part.result.name] = Operand(part.result.name, result, self.config.dtype)

    def _after(self, goal: _Goal) -> Tensor:
        """Return the result with an epilogue that a separate kernel applies to the whole result."""
        whole = replace(goal.statement.result, name=self._name())
        self._part(replace(goal.statement, result=whole), goal.levels)
        return self.result(replace(goal, statement=replace(goal.statement, expression=whole)))

    def _name(self, kind: str = "part") -> str:
        """Return a name that no operand and no other intermediate has."""
        found = (n for n in map(f"{kind}{{}}".format, count(1)) if n not in self.named)
        name = next(n for n in found if n not in self.taken)
        self.taken.add(name)
        return name


def pack_operands(plan: Plan) -> tuple[Tensor, ...]:
    """Pack the plan's operands; one that is used twice with the same levels is packed once."""
    packed: dict[Any, Tensor] = {}
    found = []
    for operand, stored in zip(plan.operands, plan.nest.columns, strict=True):
        key = (id(operand.source), stored.packing)
        if key not in packed:
            packed[key] = operand.pack(stored)
        found.append(packed[key])
    return tuple(found)
