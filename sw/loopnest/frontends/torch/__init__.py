"""The front end for PyTorch: modules and exported programs become graphs."""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "models of PyTorch need PyTorch, which is not installed: pip install loopnest[torch]"
    ) from error

from .export import from_torch

__all__ = ["from_torch"]
