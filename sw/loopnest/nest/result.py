"""The result's column: which loops select its fiber, which lie within it, and how it is summed.

The chip writes a result in the order of its loops: the leading ones that the result has select the
fiber, the others are keys within it. The host converts to any other order or levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from loopnest_hw.config import COORDINATE_BITS, LANES, POSITION_BITS
from loopnest_hw.descriptor import LeafMode, ResultMode
from loopnest_hw.format import OPEN_STRIDE, WORD_BYTES

from ..expression.split import OneKernelError
from ..formats.pack import COMPRESSED, DENSE
from ..named import named

named(LeafMode), named(ResultMode)

KEYS = 1 << COORDINATE_BITS


@named
@dataclass(frozen=True)
class Part:
    """What a result is of a larger dense tensor, whose modes lie in their order.

    Attributes
    ----------
    shape : tuple of int
        Of the tensor.
    first : tuple of int
        The coordinates of the result's first element.
    modes : tuple of int
        The mode that each index of the result walks; the others stay where the first element is.
    """

    shape: tuple[int, ...]
    first: tuple[int, ...]
    modes: tuple[int, ...]

    @property
    def start(self) -> int:
        """Position of the first element."""
        return sum(self.step(mode) * at for mode, at in enumerate(self.first))

    def step(self, mode: int) -> int:
        """Return the positions from one coordinate of a mode to the next."""
        return prod(self.shape[mode + 1 :])


@named
@dataclass(frozen=True)
class ResultPlan:
    """The form in which the chip writes the result.

    Attributes
    ----------
    fiber_loops, key_loops : tuple of str
        The result's indices in the order of the loops.
    modes : mapping of str to (ResultMode, step)
        The result's cell in each loop; summed indices are not in it.
    fibers, span : int
        Number of result fibers, and coordinates of each.
    compressed : bool
        Table, blocks and values, or dense values alone.
    leaf_mode, accumulate, drain_stop, full
        The descriptor's fields of these names.
    part : Part or None
        Where a dense result lies in a larger tensor.
    """

    fiber_loops: tuple[str, ...]
    key_loops: tuple[str, ...]
    modes: Mapping[str, tuple[ResultMode, int]]
    fibers: int
    span: int
    compressed: bool
    leaf_mode: LeafMode
    accumulate: bool
    drain_stop: int
    full: bool
    part: Part | None = None

    @property
    def places(self) -> int:
        """Values in the region of a dense result."""
        return self.fibers * self.span if self.part is None else prod(self.part.shape)

    def placed(
        self, indices: Sequence[str], sizes: Mapping[str, int], part: Part
    ) -> "ResultPlan | None":
        """Return the plan of the same result, with these indices, as a part of a larger tensor;
        None where the chip cannot write it there.
        """
        rows = (DENSE,) * len(indices), tuple(range(len(indices)))
        if self.layout(indices, sizes) != rows:
            return None
        mode_of = dict(zip(indices, part.modes, strict=True))
        if any(part.step(mode_of[i]) != self.modes[i][1] for i in self.key_loops):
            return None
        modes = {
            i: (kind, part.step(mode_of[i]) if kind is ResultMode.FIBER else step)
            for i, (kind, step) in self.modes.items()
        }
        return replace(self, modes=modes, part=part)

    @property
    def replayable(self) -> bool:
        """Whether a fiber that the accumulator cannot hold is computed in several passes: true if
        each fiber belongs to one token of the first loop. Without accumulation no slots are needed.
        """
        return not self.accumulate or len(self.fiber_loops) == 1

    def layout(
        self, indices: Sequence[str], sizes: Mapping[str, int]
    ) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
        """Return levels and mode order of the tensor that the chip writes, of a result with these
        indices; None if it is not a tensor: keys of several indices in one compressed level, or
        with padding between. A part has that of the whole tensor.
        """
        if self.part is not None:
            rank = len(self.part.shape)
            return (DENSE,) * rank, tuple(range(rank))
        loops = (*self.fiber_loops, *self.key_loops)
        kinds = [DENSE] * len(loops)
        if self.compressed:
            if len(self.key_loops) != 1:
                return None
            kinds[-1] = COMPRESSED
        elif self.span != prod(sizes[i] for i in self.key_loops):
            return None
        return tuple(kinds), tuple(indices.index(i) for i in loops)

    def shared(self, outermost: str | None) -> bool:
        """Return whether several PEs share out the coordinates of the outermost loop: no two of
        them are added.
        """
        mode, step = self.modes.get(outermost or "", (ResultMode.HOLD, 0))
        if mode is ResultMode.KEY and (self.compressed or self.full):
            return False
        return mode is not ResultMode.HOLD and step > 0

    @property
    def fiber_step(self) -> int:
        """Positions from one fiber to the next."""
        return 1 if self.compressed else self.span


def fiber_loops(result: Sequence[str], loops: Sequence[str], compressed: bool) -> tuple[str, ...]:
    """Return the leading loops that select the result's fiber.

    These are the result's, up to the first summed one, except the innermost, which stays a key. A
    dense vector's loop is included: its fibers are single numbers, each complete as soon as its sum
    is.
    """
    leading: list[str] = []
    for index in loops:
        if index not in result:
            break
        leading.append(index)
    alone = len(result) == 1 and len(loops) > 1 and not compressed
    if len(leading) == len(result) and not alone:
        leading = leading[:-1]
    return tuple(leading)


def plan_result(
    result: Sequence[str],
    loops: Sequence[str],
    sizes: Mapping[str, int],
    *,
    compressed: bool,
    full: bool,
) -> ResultPlan:
    """Place the result's indices for loops in this order.

    Parameters
    ----------
    full : bool
        Every coordinate has to be visited, touched or not.

    Raises
    ------
    OneKernelError
        If a result fiber is wider than 2^20, or the result too large to be addressed.
    """
    fiber = fiber_loops(result, loops, compressed)
    keys = tuple(i for i in loops if i in result and i not in fiber)
    summed = [i for i in loops if i not in result]
    if not loops or loops[-1] in summed:
        leaf_mode = LeafMode.DOT
    else:
        leaf_mode = LeafMode.AXPY
    widths = [sizes[i] for i in keys]
    if leaf_mode is LeafMode.AXPY and len(keys) > 1:
        # AXPY requires a token's key to be a multiple of the block size, so the innermost index is
        # padded.
        widths[-1] = -(-widths[-1] // LANES) * LANES
        if prod(widths) > KEYS:
            leaf_mode, widths[-1] = LeafMode.SCATTER, sizes[keys[-1]]
    span = prod(widths)
    if span > KEYS:
        raise OneKernelError(
            f"order {''.join(loops)!r}: indices {','.join(keys)} make {span} coordinates of one "
            f"result fiber: a single kernel holds 2^{COORDINATE_BITS}; "
            f"put one of the result's indices outermost"
        )
    scalars = not keys
    only_dot = summed == list(loops[-1:])
    accumulate = bool(summed) and not only_dot
    if full and not accumulate and not scalars:
        accumulate = True
    fibers = prod(sizes[i] for i in fiber)
    if not fibers:
        # The end of an outer loop's coordinate may be one, which must not be filled.
        full = False
    if compressed and fibers * OPEN_STRIDE * WORD_BYTES >= 1 << (POSITION_BITS - 1):
        raise OneKernelError(
            f"order {''.join(loops)!r}: the result's position table has {fibers} entries: "
            f"more than the chip can address"
        )
    modes: dict[str, tuple[ResultMode, int]] = {}
    step = 1 if compressed else span
    for i in reversed(fiber):
        modes[i] = (ResultMode.FIBER, step)
        step *= sizes[i]
    step = 1
    for i, width in zip(reversed(keys), reversed(widths), strict=True):
        modes[i] = (ResultMode.KEY, step)
        step *= width
    rows = max(2, len(loops))
    return ResultPlan(
        fiber_loops=fiber,
        key_loops=keys,
        modes=modes,
        fibers=fibers,
        span=span,
        compressed=compressed,
        leaf_mode=leaf_mode,
        accumulate=accumulate,
        drain_stop=rows - len(fiber),
        full=full,
    )
