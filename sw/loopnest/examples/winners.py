"""A network with sparse weights and sparse activations, trained with NumPy and SciPy.

Each neuron has a few random inputs from the start, and each hidden layer keeps its largest
activations only: the k winners, of which those that seldom win are favoured while training, less
and less (Ahmad and Scheinkman, "How Can We Be So Dense? The Benefits of Using Highly Sparse
Representations", 2019).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from .adam import Adam

Array = NDArray[np.float32]

SEED = 3
BATCH = 64
LEARNING_RATE = 0.01
BOOST = 1.5
"""How much neurons that seldom win are favoured at first."""
BOOST_DECAY = 0.9
"""What is left of that after an epoch."""
MEMORY = 0.99
"""Of how often a neuron wins, from batch to batch."""


@dataclass
class Layer:
    """``weights @ x + bias``: weights (out, in), of which only those stored are trained, and a
    column of biases.
    """

    weights: sp.csr_array
    bias: Array

    def apply(self, x: Array) -> Array:
        """Return the sums (out, batch) of inputs (in, batch)."""
        return self.weights @ x + self.bias


def keep_winners(x: Array, count: int, keys: Array | None = None) -> Array:
    """Return x (neurons, batch) with 0 but for the elements of each column whose keys, by default
    themselves, are the largest.
    """
    keys = x if keys is None else keys
    least = -np.partition(-keys, count - 1, axis=0)[count - 1 : count]
    return np.where(keys >= least, x, np.float32(0))


def forward(layers: Sequence[Layer], x: Array, winners: int) -> Array:
    """Return the results (classes, batch) of a network for inputs (in, batch)."""
    for layer in layers[:-1]:
        x = keep_winners(layer.apply(x), winners)
    return layers[-1].apply(x)


def draw(inputs: NDArray[np.bool_], sizes: Sequence[int], fan_in: Sequence[int]) -> list[Layer]:
    """Return a network that is not trained.

    Parameters
    ----------
    inputs : array of bool
        Which inputs the first layer may have.
    sizes : sequence of int
        Outputs of each layer.
    fan_in : sequence of int
        Inputs of each of its neurons.
    """
    rng = np.random.default_rng(SEED)
    layers = []
    for size, count in zip(sizes, fan_in, strict=True):
        possible = np.flatnonzero(inputs)
        order = np.argsort(rng.random((size, len(possible))), axis=1)[:, :count]
        columns = np.sort(possible[order], axis=1)
        values = rng.normal(0, np.sqrt(2 / count), columns.size).astype(np.float32)
        indptr = np.arange(size + 1) * count
        weights = sp.csr_array((values, columns.reshape(-1), indptr), (size, len(inputs)))
        layers.append(Layer(weights, np.zeros((size, 1), np.float32)))
        inputs = np.ones(size, bool)
    return layers


def train(
    layers: Sequence[Layer],
    x: Array,
    labels: NDArray[np.int64],
    *,
    winners: int,
    epochs: int,
    step: Callable[[], None],
) -> None:
    """Train a network in place, on inputs (in, samples); ``step`` is called after each epoch."""
    rng = np.random.default_rng(SEED + 1)
    adam = Adam([p for layer in layers for p in (layer.weights.data, layer.bias)])
    shares = [np.full_like(layer.bias, winners / len(layer.bias)) for layer in layers[:-1]]
    # the matrices are small: threads would only wait for each other
    with threadpool_limits(limits=1):
        for epoch in range(epochs):
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
            boost = BOOST * BOOST_DECAY**epoch
            order = rng.permutation(len(labels))
            for start in range(0, len(order), BATCH):
                some = order[start : start + BATCH]
                entering = [x[:, some]]
                for layer, share in zip(layers[:-1], shares, strict=True):
                    sums = layer.apply(entering[-1])
                    favour = np.exp(boost * (1 - share * len(share) / winners))
                    kept = keep_winners(sums, winners, sums * favour)
                    share *= MEMORY
                    share += (1 - MEMORY) * (kept != 0).mean(axis=1, keepdims=True)
                    entering.append(kept)
                scores = layers[-1].apply(entering[-1])
                adam.step(_gradients(layers, entering, scores, labels[some]), rate)
            step()


def _gradients(
    layers: Sequence[Layer], entering: Sequence[Array], scores: Array, labels: NDArray[np.int64]
) -> list[Array]:
    """Return the gradients of the cross entropy by each layer's stored weights and biases."""
    back = np.exp(scores - scores.max(axis=0))
    back /= back.sum(axis=0)
    back[labels, np.arange(len(labels))] -= 1
    back /= len(labels)
    gradients: list[Array] = []
    for layer, x in zip(reversed(layers), reversed(entering), strict=True):
        rows, columns = layer.weights.tocoo().coords
        stored = np.einsum("ws,ws->w", back[rows], x[columns])
        gradients[:0] = [stored, back.sum(axis=1, keepdims=True)]
        back = (layer.weights.T @ back) * (x != 0)
    return gradients
