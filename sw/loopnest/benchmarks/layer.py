"""One layer of a network, 512 by 512, at increasing sparsity."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .bounds import Bound, Fixed, OfCase, OfRoof
from .cases import Case
from .matrices import SEED, nonzeros

SIZE = 512
BATCH = 64

BATCH_SLOTS, SINGLE_SLOTS = 0.95, 0.90
"""Multiplier slots that the dense run uses, on a batch and on one input."""

Pattern = Callable[[np.random.Generator], NDArray[np.bool_]]


def some(share: float) -> Pattern:
    """Return a pattern of that share of all weights, at random places."""

    def pattern(rng: np.random.Generator) -> NDArray[np.bool_]:
        kept = np.arange(SIZE * SIZE) < round(share * SIZE * SIZE)
        return rng.permutation(kept).reshape(SIZE, SIZE)

    return pattern


def two_of_four(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the pattern of two weights of each four along a fiber."""
    groups = rng.permuted(np.tile([True, True, False, False], (SIZE * SIZE // 4, 1)), axis=1)
    return groups.reshape(SIZE, SIZE)


@dataclass(frozen=True)
class Sparsity:
    """A way to prune; the shares are bounds: cycles over those of the dense run.

    ``half_inputs``: every other input is zero too, at random, and they are stored compressed.
    """

    name: str
    weights: Pattern
    batch_share: float
    single_share: float
    half_inputs: bool = False


SPARSITIES = (
    Sparsity("10 % zeros", some(0.9), 0.93, 0.95),
    Sparsity("50 % zeros", some(0.5), 0.54, 0.57),
    Sparsity("2:4", two_of_four, 0.54, 0.55),
    Sparsity("90 % zeros, half of the inputs", some(0.1), 0.060, 0.08, half_inputs=True),
    Sparsity("31 of 32 zeros", some(1 / 32), 1 / 28, 1 / 14),
)


def layer_cases(multipliers: int, *, shared: bool = False) -> Iterator[Case]:
    """Yield the dense layer and the sparse ones, on 64 inputs and on one.

    On the batch the leaf runs along the inputs, on one input along the weights; the loops are the
    same for dense and compressed weights. If ``shared``, several PEs share out the outputs of one
    input, too, which otherwise are innermost.
    """
    rng = np.random.default_rng(SEED)
    weights, inputs = nonzeros((SIZE, SIZE), rng), nonzeros((SIZE, BATCH), rng)
    work = SIZE * SIZE / multipliers
    dense, single = "layer, 64 inputs: ", "layer, 1 input: "
    yield batch(dense + "dense", weights, inputs, Fixed(BATCH * work / BATCH_SLOTS))
    for sparsity in SPARSITIES:
        W = sp.csr_array(weights * sparsity.weights(rng))
        X = inputs * (rng.random(inputs.shape) < 0.5) if sparsity.half_inputs else inputs
        bound = OfCase(dense + "dense", sparsity.batch_share)
        stored = sp.csr_array(X) if sparsity.half_inputs else X
        yield batch(dense + sparsity.name, W, stored, bound)
    x = inputs[:, 0]
    # read once, one input's weights take more cycles of the memory than of several PEs
    limit: Bound = OfRoof(SINGLE_SLOTS) if shared else Fixed(work / SINGLE_SLOTS)
    yield _single(single + "dense", weights, x, limit, shared=shared)
    for sparsity in SPARSITIES:
        W = sp.csr_array(weights * sparsity.weights(rng))
        kept = x * (rng.random(SIZE) < 0.5) if sparsity.half_inputs else x
        bound = OfCase(single + "dense", sparsity.single_share)
        stored = sp.coo_array(kept) if sparsity.half_inputs else kept
        # a sparse input gives a compressed vector, one fiber, which one PE writes
        several = shared and not sparsity.half_inputs
        yield _single(single + sparsity.name, W, stored, bound, shared=several)


def batch(name: str, W: sp.csr_array | NDArray, X: sp.csr_array | NDArray, bound: Bound) -> Case:
    """Return a layer on several inputs, with its leaf along them."""
    return Case(
        name=name,
        statement="Y[o,b] = W[o,i] * X[i,b]",
        order="oib",
        operands={"W": W, "X": X},
        expected=lambda: W @ X,
        bound=bound,
    )


def _single(
    name: str, W: sp.csr_array | NDArray, x: sp.coo_array | NDArray, bound: Bound, *, shared: bool
) -> Case:
    by_output = sp.csr_array(W.T) if sp.issparse(W) else W.T
    return Case(
        name=name,
        statement=f"y[o] = W[{'o,i' if shared else 'i,o'}] * x[i]",
        order="oi" if shared else "io",
        operands={"W": by_output if shared else W, "x": x},
        expected=lambda: W.T @ (x if isinstance(x, np.ndarray) else x.toarray()),
        bound=bound,
    )
