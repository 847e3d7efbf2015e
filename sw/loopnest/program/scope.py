"""What the planning of a statement's kernels shares: operands, settings, and the steps so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

import numpy as np

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import Op

from ..cost.counts import Counts
from ..epilogue import Epilogue
from ..expression.expected import Expected
from ..expression.notation import Access, Statement, named_apart
from ..expression.operand import Operand
from ..expression.semiring import Semiring
from ..expression.slices import Slice, slice_operand
from ..expression.split import Splitter
from ..expression.view import View
from ..loops.plan import index_sizes
from .steps import HostStep, Step, changed


@dataclass(frozen=True)
class Goal:
    """A result to compute: its statement, its levels, and its epilogue.

    ``whole``: a product is not taken apart, unless one kernel can't compute it. ``as_written``: the
    result may have the layout in which the chip writes it. ``row_major``: it is wanted in the order
    of its modes.
    """

    statement: Statement
    levels: tuple[str, ...]
    epilogue: Epilogue | None = None
    whole: bool = False
    as_written: bool = False
    row_major: bool = False


@dataclass(frozen=True)
class Scope:
    """State common to all kernels of a statement.

    Attributes
    ----------
    named : dict
        The operands by name; intermediates are added.
    order : sequence of str or None
        The loops; each kernel takes those that it has.
    latency : int
        Of the memory, in cycles.
    taken : set of str
        The names of intermediates, including those still to be planned.
    steps : list
        The steps so far.
    pieces : int
        The number of parts into which the statement was halved.
    counts : Counts
        Of the operands and intermediates.
    left_out : set of str
        The operands of which panels without entries were left out.
    bound : set of Operand
        Those for whose entries alone the kernels are right.
    """

    config: ChipConfig
    named: dict[str, Operand]
    order: Sequence[str] | None
    latency: int
    semiring: Semiring
    taken: set[str]
    steps: list[Step]
    pieces: int = 1
    counts: Counts = field(default_factory=Counts)
    left_out: set[str] = field(default_factory=set)
    bound: set[Operand] = field(default_factory=set)
    _slices: dict[tuple[Operand, Access, tuple[Slice, ...]], list[Operand]] = field(
        default_factory=dict
    )

    def operands(self, statement: Statement) -> list[Operand]:
        """Return the operands of a statement, in the order written."""
        return [self.named[access.name] for access in statement.accesses]

    def sizes(self, statement: Statement) -> dict[str, int]:
        """Return the sizes of its indices."""
        return index_sizes(statement, self.operands(statement))

    def name(self, kind: str = "part") -> str:
        """Return a name that no operand and no other intermediate has."""
        found = (n for n in map(f"{kind}{{}}".format, count(1)) if n not in self.named)
        name = next(n for n in found if n not in self.taken)
        self.taken.add(name)
        return name

    def with_operands(self, named: dict[str, Operand]) -> "Scope":
        """Return it with other operands."""
        return replace(self, named=named)

    def splitter(self, statement: Statement) -> Splitter:
        """Return what splits a statement of these operands."""
        sizes = self.sizes(statement)

        def ones(index: str) -> Access:
            name = self.name("ones")
            source = np.full(sizes[index], self.semiring.one, np.float32)
            self.named[name] = Operand(name, source, self.config.dtype)
            return Access(name, (index,))

        return Splitter(
            operands=self.config.operands,
            sizes=sizes,
            wide=lambda a: self.named[a.name].wide and self.semiring.multiply is Op.MUL,
            name=self.name,
            ones=ones,
            scalars=self.semiring.zero == 0,
        )

    def on_host(
        self,
        what: str,
        operands: Sequence[Operand],
        result: Expected,
        apply: Callable[..., Operand],
    ) -> Expected:
        """Add a step of the host; return its result."""
        self.steps.append(HostStep(what, tuple(operands), result, apply))
        return result

    def changed(self, what: str, operand: Operand, change: Callable[[Operand], Operand]) -> Operand:
        """Return an operand rearranged by a step of the host."""
        return changed(self.steps, what, operand, change)

    def with_steps(self) -> "Scope":
        """Return it with steps of its own."""
        return replace(self, steps=[], _slices={})

    def slices(
        self, statement: Statement, slices: Sequence[Slice]
    ) -> list[tuple[Statement, "Scope"]]:
        """Return a statement's slices along an index, each with its operands; steps of the host cut
        them.
        """
        sizes = self.sizes(statement)
        named_statement, of = named_apart(statement)
        operands = {a.name: self.named[of[a.name]] for a in named_statement.accesses}
        cut = {
            a.name: self._cut(operands[a.name], of[a.name], a, slices, sizes)
            for a in named_statement.accesses
        }
        found = []
        for n, part in enumerate(slices):
            accesses = {
                a: part.access(a, operands.get(a.name))
                for a in (named_statement.result, *named_statement.accesses)
            }
            named = {accesses[a].name: cut[a.name][n] for a in named_statement.accesses}
            own = named_statement.with_accesses(accesses.__getitem__)
            found.append((own, self.with_operands(named)))
        return found

    def _cut(
        self,
        operand: Operand,
        name: str,
        access: Access,
        slices: Sequence[Slice],
        sizes: dict[str, int],
    ) -> list[Operand]:
        """Return an operand's slices; those of one that is cut twice are the same."""
        index = slices[0].index
        if index not in access.indices:
            return [operand] * len(slices)
        key = operand, replace(access, name=""), tuple(slices)
        if key not in self._slices:
            found = self._slices[key] = slice_operand(operand, access, slices, sizes)
            for part, piece in zip(slices, found, strict=True):
                self._add_slice(operand, name, access, part, piece, sizes)
        return self._slices[key]

    def _add_slice(
        self,
        operand: Operand,
        name: str,
        access: Access,
        part: Slice,
        piece: Operand,
        sizes: dict[str, int],
    ) -> None:
        """Add the step of the host that cuts a slice; a view of something is not cut, nor what is
        joined from these slices.
        """
        what = f"slice {name} along {part}"
        apply: Callable[..., Operand]
        if isinstance(operand, View) and isinstance(piece, View):
            if operand.base is piece.base:
                return
            whole, made, apply = operand.base, piece.base, partial(part.viewed, access)
        else:
            whole, made, apply = operand, piece, partial(part.operand, access, sizes=sizes)
        joined = whole.panels[1] if isinstance(whole, Expected) and whole.panels else ()
        if any(made is result for *_, result in joined):
            return
        if made.known:
            made.assume_bounds(*whole.bounds)
        self.steps.append(HostStep(what, (whole,), made, apply))
