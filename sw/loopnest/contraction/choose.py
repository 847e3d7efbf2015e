"""Chooses the kernels of a product of several factors: the order of the factors, and their
grouping.

A path multiplies the factors two or three at a time. The cheapest path by the cost model is found
by a best-first search: a kernel is priced when it is next on the best path so far; until then, a
lower bound from its lanes is used. Of more than `MAX_SEARCHED` factors, the first kernels are
chosen by the densities of the factors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import combinations, count
from math import expm1, inf, prod

import numpy as np

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Op

from ..cost.estimate import START
from ..cost.relation import Relation, total
from ..expression.expected import Expected, in_order
from ..expression.notation import Access, Statement
from ..expression.operand import Operand
from ..expression.split import product_of
from ..formats.tensor import MAX_ORDER, sparse_levels
from ..loops.plan import index_sizes
from ..loops.zeros import MIN_ZEROS
from .pattern import MAX_ENTRIES, Pattern, joined, pattern_of
from .price import IMPOSSIBLE, Price, Pricer
from .rewrite import fits

MAX_SEARCHED = 4
"""Maximum number of factors for which all paths are searched."""

SEVERAL = 1.05
"""Factor on the expected cycles of several kernels, if a single one is possible."""

DENSE_FROM = 0.5
"""Share of its coordinates from which an intermediate is dense, if absent entries are equivalent to
0.
"""

Node = frozenset[int]
"""A factor, or a product of factors, by their numbers."""


@dataclass(frozen=True)
class Part:
    """An intermediate to compute: the nodes to multiply, and whether the result is compressed."""

    node: Node
    factors: tuple[Node, ...]
    kept: tuple[str, ...]
    compressed: bool


_Entry = tuple[float, int, tuple[Node, ...], list[tuple[Node, ...]], tuple[Node, ...], float]
"""Expected cycles, a number that breaks ties, the remaining nodes, the kernels so far; and a
further kernel that is not priced yet, with its lower bound.
"""


class Contraction:
    """A product of factors, summed over the indices that its result lacks.

    Parameters
    ----------
    statement : Statement
        A product of accesses, with an optional mask.
    operands : sequence of Operand
        One for each access, the mask's last.
    compressed, full : bool
        Of the result, as `make_plan` takes them.
    skip_zeros : bool
        Of the last kernel, as `make_plan` takes it.
    memory : int
        Maximum bytes of an intermediate.

    Attributes
    ----------
    refused : tuple, optional
        The smallest intermediate that exceeds the memory: its statement, shape and bytes.
    """

    def __init__(
        self,
        pricer: Pricer,
        statement: Statement,
        operands: Sequence[Operand],
        *,
        compressed: bool,
        full: bool,
        skip_zeros: bool,
        memory: int,
    ) -> None:
        self._pricer, self._statement = pricer, statement
        self._compressed, self._full = compressed, full
        self._skip_zeros, self._memory = skip_zeros, memory
        self._sizes = index_sizes(statement, operands)
        masked = statement.mask is not None
        self._mask = operands[-1] if masked else None
        self._factors = operands[: len(operands) - masked]
        self._accesses = statement.accesses[: len(self._factors)]
        self._multiplies = pricer.semiring.multiply is Op.MUL
        self._all = frozenset(range(len(self._factors)))
        # a dense intermediate has a 0 where it has no term; the final result must not depend on
        # that
        whole = fits(pricer.config.dtype, self._factors, statement.summed, self._sizes)
        self._dense_parts = not compressed and (whole or pricer.config.dtype is NumberFormat.INT8)
        self._overflows = not whole
        self._patterns: dict[Node, Pattern] = {}
        self._parts: dict[Node, Expected] = {}
        self._sparse: set[Node] = set()
        self._indices_kept: dict[Node, tuple[str, ...]] = {}
        self._prices: dict[tuple[Node, ...], Price] = {}
        self.refused: tuple[str, tuple[int, ...], int] | None = None

    def choose(self) -> list[Part] | None:
        """Return the intermediates in the order of computation, the whole product last; None if
        there is no path.
        """
        found = self._chosen()
        if found is None and self._overflows and self.refused is None:
            self._overflows = False
            self._prices.clear()
            found = self._chosen()
        return found

    def _chosen(self) -> list[Part] | None:
        nodes = tuple(frozenset([n]) for n in sorted(self._all))
        parts: list[Part] = []
        chain = self._chain(nodes) if len(nodes) > MAX_SEARCHED else []
        while len(nodes) > MAX_SEARCHED:
            merged = self._next(chain)
            if merged is None:
                return None
            parts.append(self._part(merged))
            nodes = _after(nodes, merged)
            chain = [parts[-1].node, *chain[len(merged) :]]
        found = self._searched(nodes)
        if found is None:
            return None
        parts += found
        layouts: dict[str, tuple[str, ...]] = {}
        for part in parts:
            layouts |= self._price(part.factors).layouts
        return [replace(p, kept=layouts.get(self._access(p.node).name, p.kept)) for p in parts]

    def _searched(self, start: tuple[Node, ...]) -> list[Part] | None:
        """Return the cheapest path from some nodes to the whole product."""
        tie = count()
        heap: list[_Entry] = [(0.0, next(tie), start, [], (), 0.0)]
        done: set[frozenset[Node]] = set()
        while heap:
            cost, _, nodes, path, merged, bound = heappop(heap)
            if merged:
                price = self._price(merged)
                if price is not IMPOSSIBLE:
                    real = cost - bound + self._weight(start, merged) * price.cycles
                    after = _after(nodes, merged)
                    heappush(heap, (real, next(tie), after, [*path, merged], (), 0.0))
                continue
            if len(nodes) == 1:
                return [self._part(merged) for merged in path]
            if frozenset(nodes) in done:
                continue
            done.add(frozenset(nodes))
            for some in self._merges(nodes):
                least = self._weight(start, some) * self._bound(some)
                heappush(heap, (cost + least, next(tie), nodes, path, some, least))
        return None

    def _weight(self, start: tuple[Node, ...], merged: tuple[Node, ...]) -> float:
        return 1.0 if len(merged) == len(start) else SEVERAL

    def _merges(self, nodes: tuple[Node, ...]) -> Iterator[tuple[Node, ...]]:
        """Yield the nodes that a kernel can multiply: a product has at most one wide factor, which
        must be among them.
        """
        wide = {node for node in nodes if self._wide(node)} if self._multiplies else set()
        columns = self._pricer.config.operands
        for size in range(2, min(columns, len(nodes)) + 1):
            for some in combinations(nodes, size):
                last = len(some) == len(nodes)
                if last and self._mask is not None and size > columns - 1:
                    continue
                if wide and (not wide <= set(some) or len(wide) > 1):
                    continue
                if not last and not self._fits(some):
                    continue
                yield some

    def _wide(self, node: Node) -> bool:
        if len(node) > 1:
            return True
        (n,) = node
        return self._factors[n].wide

    def _price(self, merged: tuple[Node, ...]) -> Price:
        if merged not in self._prices:
            self._prices[merged] = self._priced(merged)
        return self._prices[merged]

    def _priced(self, merged: tuple[Node, ...]) -> Price:
        part = self._part(merged)
        operands = [self._operand(node) for node in merged]
        expression = product_of([self._access(node) for node in merged])
        last = part.node == self._all
        if self._overflows and not last and self._may_overflow(part):
            return IMPOSSIBLE
        if last:
            statement = Statement(self._statement.result, expression, self._statement.mask)
            operands += [] if self._mask is None else [self._mask]
        else:
            statement = Statement(Access("part", part.kept), expression)
        found = self._pricer.price(
            statement,
            operands,
            compressed=part.compressed,
            full=last and self._full,
            skip_zeros=self._skip_zeros if last else not part.compressed,
        )
        if found is not IMPOSSIBLE and found.memory > self._memory:
            if self.refused is None or found.memory < self.refused[2]:
                shape = tuple(self._sizes[i] for i in statement.result.indices)
                written = " * ".join(self._written(node) for node in merged)
                text = f"{statement.result} = {written}{statement.mask or ''}"
                self.refused = text, shape, found.memory
            return IMPOSSIBLE
        return found

    def _written(self, node: Node) -> str:
        """Return a node as a statement has it, an intermediate as the product of its factors."""
        factors = " * ".join(str(self._accesses[n]) for n in sorted(node))
        return f"({factors})" if len(node) > 1 else factors

    def _part(self, merged: tuple[Node, ...]) -> Part:
        node = frozenset().union(*merged)
        if node == self._all:
            return Part(node, merged, self._statement.result.indices, self._compressed)
        self._expected(node, merged)
        return Part(node, merged, self._kept(node), node in self._sparse)

    def _may_overflow(self, part: Part) -> bool:
        """Return whether an intermediate's sums may overflow its values."""
        summed = [i for i in self._indices(part.node) if i not in part.kept]
        factors = [self._factors[n] for n in part.node]
        return not fits(self._pricer.config.dtype, factors, summed, self._sizes)

    def _bound(self, merged: tuple[Node, ...]) -> float:
        """Return a lower bound of a kernel's cycles, from its lanes."""
        relations = []
        for node in merged:
            pattern = self._least(node)
            if pattern.indices:
                ones = np.ones(pattern.entries)
                relations.append(Relation(pattern.indices, pattern.columns, ones))
        loops = {i for node in merged for i in self._access(node).indices}
        lanes = total(relations, loops, self._sizes)
        return START + lanes / self._pricer.config.multipliers

    def _least(self, node: Node) -> Pattern:
        """Return a node's pattern, a dense factor's without its zeros."""
        if len(node) == 1:
            (n,) = node
            sparser = self._factors[n].without(self._pricer.semiring.zero, MIN_ZEROS)
            if sparser is not None and self._accesses[n].places is None:
                return pattern_of(self._accesses[n], sparser)
        return self._pattern(node)

    def _pattern(self, node: Node, merged: tuple[Node, ...] = ()) -> Pattern:
        if node not in self._patterns:
            if merged:
                below = [self._pattern(m) for m in merged]
                found = joined(below, self._kept(node), self._sizes)
            else:
                (n,) = node
                found = pattern_of(self._accesses[n], self._factors[n])
            self._patterns[node] = found
        return self._patterns[node]

    def _operand(self, node: Node) -> Operand:
        if len(node) > 1:
            return self._parts[node]
        (n,) = node
        return self._factors[n]

    def _access(self, node: Node) -> Access:
        if len(node) > 1:
            return Access(f"part{sorted(node)}", self._kept(node))
        (n,) = node
        return self._accesses[n]

    def _expected(self, node: Node, merged: tuple[Node, ...]) -> Expected:
        """Return the expected result of an intermediate."""
        if node in self._parts:
            return self._parts[node]
        kept, sizes = self._kept(node), self._sizes
        shape = tuple(sizes[i] for i in kept)
        pattern = self._pattern(node, merged)
        whole = prod(shape)
        entries = pattern.entries * prod(sizes[i] for i in kept if i not in pattern.indices)
        absent = self._pricer.semiring.zero != 0
        compressed = bool(kept) and (
            absent
            or (entries < whole and not (self._dense_parts and entries >= DENSE_FROM * whole))
        )
        self._sparse |= {node} if compressed else set()
        # results with too many entries to compute in time are priced as dense
        coordinates = pattern.spread(kept, sizes) if compressed and entries <= MAX_ENTRIES else None
        name = self._access(node).name
        # as it will be stored; a dense one has the order of its indices that its kernel prefers
        layout = in_order(sparse_levels(len(kept))) if coordinates is not None else None
        found = Expected(name, shape, self._pricer.config.dtype, coordinates, layout=layout)
        self._parts[node] = found
        return found

    def _indices(self, node: Node) -> tuple[str, ...]:
        own = {i for n in node for i in self._accesses[n].indices}
        return tuple(i for i in self._statement.indices if i in own)

    def _kept(self, node: Node) -> tuple[str, ...]:
        """Return the indices of an intermediate: those of the result and of the other factors."""
        if node not in self._indices_kept:
            self._indices_kept[node] = self._find_kept(node)
        return self._indices_kept[node]

    def _find_kept(self, node: Node) -> tuple[str, ...]:
        own = self._indices(node)
        others = {i for n in self._all - node for i in self._accesses[n].indices}
        kept = tuple(i for i in own if i in others or i in self._statement.result.indices)
        if not kept and self._pricer.semiring.zero != 0:
            return own[:1]  # a number is always present, and a sum without terms is not
        return kept

    def _chain(self, nodes: tuple[Node, ...]) -> list[Node]:
        """Return many nodes in an order of multiplication, by their densities, with entries assumed
        to be at random places: after the first two, always the one with the lowest additional cost.
        """
        best: tuple[float, list[Node]] = (inf, [])
        wide = [node for node in nodes if self._multiplies and self._wide(node)]
        for pair in combinations(nodes, 2):
            if not set(wide) <= set(pair):
                continue
            density = {node: self._density(node) for node in nodes}
            chain, left = list(pair), [node for node in nodes if node not in pair]
            cost, whole = self._roughly(pair, density)
            while left and cost < best[0]:
                choices = [(*self._roughly((whole, node), density), node) for node in left]
                least, after, node = min(choices, key=lambda choice: choice[0])
                cost, whole = cost + least, after
                chain.append(node)
                left.remove(node)
            best = min(best, (cost, chain), key=lambda found: found[0])
        return best[1]

    def _next(self, chain: list[Node]) -> tuple[Node, ...] | None:
        """Return the nodes of a chain to multiply first: the first two, or three if one kernel is
        cheaper than two.
        """
        if len(chain) < 3:
            return None
        pair, three = tuple(chain[:2]), tuple(chain[:3])
        fits = len(three) <= self._pricer.config.operands
        one = self._price(three) if fits and self._fits(three) else IMPOSSIBLE
        first = self._price(pair) if self._fits(pair) else IMPOSSIBLE
        if first is IMPOSSIBLE:
            return None if one is IMPOSSIBLE else three
        if SEVERAL * first.cycles >= one.cycles:
            return three
        second = self._price((self._part(pair).node, chain[2]))
        return pair if SEVERAL * (first.cycles + second.cycles) < one.cycles else three

    def _fits(self, merged: tuple[Node, ...]) -> bool:
        return len(self._kept(frozenset().union(*merged))) <= MAX_ORDER

    def _density(self, node: Node) -> float:
        indices = self._pattern(node).indices
        space = prod(self._sizes[i] for i in indices)
        return self._pattern(node).entries / space if indices and space else 1.0

    def _roughly(self, merged: tuple[Node, ...], density: dict[Node, float]) -> tuple[float, Node]:
        """Return a rough cost of a kernel, and its product, whose density is recorded."""
        node = frozenset().union(*merged)
        loops = {i for part in merged for i in self._access(part).indices}
        lanes = float(prod(self._sizes[i] for i in loops))
        for part in merged:
            lanes *= density[part]
        kept = self._kept(node)
        space = float(prod(self._sizes[i] for i in kept))
        density[node] = -expm1(-lanes / space) if space else 1.0
        cost = START + lanes + density[node] * space
        return (cost if len(kept) <= MAX_ORDER else inf), node


def _after(nodes: tuple[Node, ...], merged: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return the nodes after some are multiplied; the product comes first."""
    return (frozenset().union(*merged), *(n for n in nodes if n not in merged))
