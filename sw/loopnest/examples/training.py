"""A small network for the digits: trained, pruned unstructured and quantised, in NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from .adam import Adam

HIDDEN = (128, 64)
TEST_SHARE = 0.25
SEED = 1
EPOCHS = 30
PRUNING_STEPS = 5
FINE_TUNING_EPOCHS = 6
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
LARGEST = 127
"""Largest magnitude of a quantised weight or activation."""

Array = NDArray[np.float64]
Step = Callable[[str], None]


@dataclass(frozen=True)
class Digits:
    """Images (rows of 64 pixels, 0 to 16) and their labels."""

    train_images: NDArray[np.int8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.int8]
    test_labels: NDArray[np.int64]


@dataclass
class Layer:
    """``relu(x @ weights + bias)``, without the ReLU in the last one."""

    weights: Array
    bias: Array


@dataclass(frozen=True)
class QuantisedLayer:
    """An int8 layer: the chip computes ``(x @ weights + bias) * scale``.

    ``scale`` is one number for each output, or None in the last layer, whose sums are compared as
    they are.
    """

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: Array | None


def digits() -> Digits:
    """Return scikit-learn's bundled digits, split into training and test images."""
    data = load_digits()
    images = data.data.astype(np.int8)
    parts = train_test_split(
        images, data.target, test_size=TEST_SHARE, random_state=SEED, stratify=data.target
    )
    train_images, test_images, train_labels, test_labels = parts
    return Digits(train_images, train_labels, test_images, test_labels)


def forward(layers: list[Layer], images: NDArray) -> list[Array]:
    """Return the activations of every layer, the images first, the logits last."""
    activations = [images.astype(np.float64)]
    for n, layer in enumerate(layers):
        sums = activations[-1] @ layer.weights + layer.bias
        activations.append(sums if n + 1 == len(layers) else np.maximum(sums, 0))
    return activations


def accuracy(logits: NDArray, labels: NDArray) -> float:
    """Return the share of images whose largest logit is their label's."""
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def train(data: Digits, step: Step) -> list[Layer]:
    """Return a trained network; ``step`` is called after each epoch."""
    rng = np.random.default_rng(SEED)
    sizes = [data.train_images.shape[1], *HIDDEN, int(data.train_labels.max()) + 1]
    layers = [
        Layer(rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)), np.zeros(fan_out))
        for fan_in, fan_out in pairwise(sizes)
    ]
    # Pixels are at most 16; the chip uses them unscaled.
    layers[0].weights /= 16
    _fit(layers, data, rng, EPOCHS, step)
    return layers


def prune(layers: list[Layer], data: Digits, sparsity: float, step: Step) -> list[Layer]:
    """Return the network with the smallest weights of each layer set to 0, in several steps with
    training after each. The last layer, which is small, keeps twice as many.
    """
    rng = np.random.default_rng(SEED + 1)
    pruned = [Layer(layer.weights.copy(), layer.bias.copy()) for layer in layers]
    for k in range(1, PRUNING_STEPS + 1):
        # Cubic schedule: most weights are pruned early (Zhu and Gupta, 2017).
        zeros = sparsity * (1 - (1 - k / PRUNING_STEPS) ** 3)
        for layer in pruned:
            share = zeros if layer is not pruned[-1] else max(0.0, 1 - 2 * (1 - zeros))
            limit = np.quantile(np.abs(layer.weights), share)
            layer.weights[np.abs(layer.weights) <= limit] = 0
        masks = [layer.weights != 0 for layer in pruned]
        _fit(pruned, data, rng, FINE_TUNING_EPOCHS, step, masks)
    return pruned


def quantise(layers: list[Layer], data: Digits) -> list[QuantisedLayer]:
    """Return the network in int8: a scale for each output's weights (one for all in the last
    layer), and one for each layer's activations, from the training images.
    """
    activations = forward(layers, data.train_images)
    quantised: list[QuantisedLayer] = []
    input_scale: float = 1.0  # pixels are integers already
    for n, (layer, outputs) in enumerate(zip(layers, activations[1:], strict=True)):
        last = n + 1 == len(layers)
        largest = np.abs(layer.weights).max(axis=None if last else 0)
        # An output whose weights are all pruned keeps its bias.
        weight_scale = np.where(largest > 0, largest, 1.0) / LARGEST
        weights = np.rint(layer.weights / weight_scale).astype(np.int8)
        bias = np.rint(layer.bias / (input_scale * weight_scale)).astype(np.int32)
        output_scale = float(np.quantile(outputs, 0.9999)) / LARGEST
        scale = None if last else input_scale * weight_scale / output_scale
        quantised.append(QuantisedLayer(weights, bias, scale))
        input_scale = output_scale
    return quantised


def _fit(
    layers: list[Layer],
    data: Digits,
    rng: np.random.Generator,
    epochs: int,
    step: Step,
    masks: list[NDArray[np.bool_]] | None = None,
) -> None:
    """Train in place with Adam on the cross entropy; weights outside ``masks`` stay 0."""
    parameters = [p for layer in layers for p in (layer.weights, layer.bias)]
    adam = Adam(parameters, decay=WEIGHT_DECAY)
    # The matrices are small: threads would only wait for each other.
    with threadpool_limits(limits=1):
        for epoch in range(epochs):
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
            order = rng.permutation(len(data.train_labels))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                gradients = _gradients(layers, data.train_images[batch], data.train_labels[batch])
                adam.step(gradients, rate)
                if masks is not None:
                    for layer, mask in zip(layers, masks, strict=True):
                        layer.weights *= mask
            step("training" if masks is None else "pruning")


def _gradients(layers: list[Layer], images: NDArray, labels: NDArray) -> list[Array]:
    activations = forward(layers, images)
    logits = activations[-1]
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = likely / likely.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    gradients: list[Array] = []
    for n in reversed(range(len(layers))):
        gradients = [activations[n].T @ error, error.sum(axis=0), *gradients]
        error = (error @ layers[n].weights.T) * (activations[n] > 0)
    return gradients
