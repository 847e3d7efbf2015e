"""Random products of three and four factors: the kernels that the runtime picks against every other
way to take the factors two or three at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import scipy.sparse as sp

from loopnest import Chip

from .drawn import LARGEST
from .outcome import same
from .picks import FACTOR, FAR, SMALL, Pick

WITHIN = 1.2
"""What the kernels picked may take, over those of the best way."""

SIZES = (10, 1000)
"""Of the indices."""

MAX_ELEMENTS = 1 << 20
"""Coordinates of an operand and of the result, at most."""

MAX_CYCLES = 300_000
"""Cycles that the kernels picked are expected to take, at most."""


@dataclass(frozen=True)
class Product:
    """A random product, and its operands by name."""

    result: str
    factors: tuple[str, ...]
    operands: Mapping[str, Any]

    @property
    def statement(self) -> str:
        """The product as the runtime may take it in any way."""
        return f"{self.result} = {' * '.join(self.factors)}"

    def ways(self, columns: int) -> list[str]:
        """Return a statement for each way, in parentheses, for a chip of so many columns."""
        found: list[str] = []
        for size in range(2, min(columns, len(self.factors)) + 1):
            for first in combinations(self.factors, size):
                found += _ways(f"({' * '.join(first)})", _without(self.factors, first), columns)
        return [f"{self.result} = {way}" for way in found]


class PickedWay(Pick):
    """What came of one product; a way stands for its order."""

    @property
    def met(self) -> bool:
        """Whether both bounds are kept."""
        return self.over <= WITHIN and 1 / FACTOR <= self.ratio <= FACTOR


def run_contractions(chip: Chip, count: int, seed: int) -> Iterator[PickedWay]:
    """Run random products in all ways; yield what came of each."""
    found = 0
    while count:
        product = draw_product(np.random.default_rng([seed, found]))
        found += 1
        if product is None:
            continue
        plans = chip.explain(product.statement, **product.operands).plans
        if sum(plan.cycles for plan in plans) <= MAX_CYCLES:
            count -= 1
            yield run_product(chip, product)


def run_product(chip: Chip, product: Product) -> PickedWay:
    """Run a product as it is picked and in all ways; without a simulator, by their estimates."""
    estimate, cycles, result, kernels = _run(chip, product.statement, product.operands)
    found = {kernels: (estimate, round(cycles))}
    right = True
    for statement in product.ways(chip.config.operands):
        plans = chip.explain(statement, **product.operands).plans
        expected = sum(plan.cycles for plan in plans)
        if _kernels(plans) in found or expected > max(SMALL, FAR * estimate):
            continue
        _, taken, other, name = _run(chip, statement, product.operands)
        right = right and same(result, other)
        found[name] = expected, round(taken)
    fastest = min(found, key=lambda name: found[name][1])
    return PickedWay(
        name=f"{product.statement} {_shapes(product)}",
        picked=kernels,
        fastest=fastest,
        cycles=round(cycles),
        over=found[kernels][1] / found[fastest][1],
        estimate=estimate,
        right=right,
        orders=found,
    )


def draw_product(rng: np.random.Generator) -> Product | None:
    """Return a random product of three or four vectors, matrices and tensors of order 3; None where
    a draw is too large.
    """
    letters = "ijklm"[: int(rng.integers(3, 6))]
    low, high = np.log(SIZES)
    sizes = {i: round(float(np.exp(rng.uniform(low, high)))) for i in letters}
    accesses: list[str] = []
    for _ in range(int(rng.integers(3, 5))):
        rank = int(rng.choice([1, 2, 3], p=[0.3, 0.55, 0.15]))
        used = sorted({i for access in accesses for i in access})
        first = [str(rng.choice(used))] if used else []  # each one shares an index
        others = [i for i in rng.permutation(list(letters)) if i not in first]
        accesses.append("".join(rng.permutation([*first, *map(str, others)][:rank])))
    every = sorted({i for access in accesses for i in access})
    result = "".join(map(str, rng.permutation(every)[: int(rng.integers(1, 3))]))
    shapes = [tuple(sizes[i] for i in indices) for indices in (*accesses, result)]
    if any(prod(shape) > MAX_ELEMENTS for shape in shapes):
        return None
    factors = tuple(f"{'ABCD'[n]}[{','.join(indices)}]" for n, indices in enumerate(accesses))
    operands = {"ABCD"[n]: _operand(rng, shape) for n, shape in enumerate(shapes[:-1])}
    return Product(f"Y[{','.join(result)}]", factors, operands)


def _operand(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Return an array, dense or of a density from 0.001 on."""
    density = float(np.exp(rng.uniform(np.log(1e-3), 0.7)))
    if density >= 1 or len(shape) == 1:
        return rng.integers(1, LARGEST + 1, shape).astype(float)
    there = np.unique(rng.integers(0, prod(shape), max(1, int(density * prod(shape)))))
    values = rng.integers(1, LARGEST + 1, len(there)).astype(float)
    found = sp.coo_array((values, np.unravel_index(there, shape)), shape)
    return found.tocsr() if len(shape) == 2 else found


def _ways(accumulated: str, others: Sequence[str], columns: int) -> Iterator[str]:
    """Yield the ways to go on from the product of some factors."""
    if not others:
        yield accumulated
    for size in range(1, min(columns - 1, len(others)) + 1):
        for some in combinations(others, size):
            whole = f"({' * '.join([accumulated, *some])})"
            yield from _ways(whole, _without(others, some), columns)


def _without(factors: Sequence[str], some: Sequence[str]) -> list[str]:
    return [factor for factor in factors if factor not in some]


def _run(chip: Chip, statement: str, operands: Mapping[str, Any]) -> tuple[float, float, Any, str]:
    """Return the estimate, the cycles (the estimate where none are counted), result and kernels."""
    plans = chip.explain(statement, **operands).plans
    estimate = sum(plan.cycles for plan in plans)
    result = chip.compute(statement, **operands)
    assert chip.report is not None
    cycles = estimate if chip.report.cycles is None else chip.report.cycles
    return estimate, cycles, result, _kernels(plans)


def _kernels(plans: Sequence[Any]) -> str:
    """Return what they compute and their loops, without parentheses."""
    names = (f"{plan.statement.expression} {''.join(plan.loops)}" for plan in plans)
    return "; ".join(names).replace("(", "").replace(")", "")


def _shapes(product: Product) -> str:
    return " ".join(
        f"{'x'.join(map(str, X.shape))}{f' of {X.nnz}' if sp.issparse(X) else ''}"
        for X in product.operands.values()
    )
