"""Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015) on NumPy arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

EPSILON = 1e-8


class Adam:
    """Changes parameters in place.

    Parameters
    ----------
    decay : float
        Of the parameters themselves, apart from the gradient, as a share of the rate.
    """

    def __init__(self, parameters: Sequence[Array], *, decay: float = 0.0) -> None:
        self._parameters, self._decay = list(parameters), decay
        self._mean = [np.zeros_like(p) for p in parameters]
        self._square = [np.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[Array], rate: float) -> None:
        """Change each parameter by its gradient."""
        self._steps += 1
        for p, g, m, v in zip(self._parameters, gradients, self._mean, self._square, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            corrected = np.sqrt(v / (1 - 0.999**self._steps)) + EPSILON
            p -= rate * (m / (1 - 0.9**self._steps) / corrected + self._decay * p)
