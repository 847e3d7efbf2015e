"""Operators of libraries that graphs do not have."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .table import Array, host


@host
def call(*inputs: Array, function: Callable[..., Any]) -> Array:
    """What ``function(*inputs)`` returns: an operator of a library that graphs do not have."""
    return np.asarray(function(*inputs))
