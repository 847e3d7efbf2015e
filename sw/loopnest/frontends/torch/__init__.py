"""The front end for PyTorch: modules and exported programs become graphs."""

from ..extras import require

require("torch", "torch")

from .export import from_torch  # noqa: E402

__all__ = ["from_torch"]
