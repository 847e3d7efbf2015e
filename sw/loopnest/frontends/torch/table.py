"""The table of ATen operators that have a translation."""

from collections.abc import Callable
from typing import Any

from torch import fx

from .builder import Builder

Translation = Callable[..., Any]
"""Called with the builder, the traced node, and its arguments with tensors as `Traced`.

It returns the result (a tuple, if there are several), or NotImplemented for arguments that it does
not translate: PyTorch computes the operator then.
"""

TRANSLATIONS: dict[str, Translation] = {}
"""The translations by the names that PyTorch prints: ``"aten.add.Tensor"``."""


def aten(*names: str) -> Callable[[Translation], Translation]:
    """Return a decorator that adds a translation of operators of ATen, by their names there."""

    def add(translation: Translation) -> Translation:
        TRANSLATIONS.update({f"aten.{name}": translation for name in names})
        return translation

    return add


def translate(b: Builder, node: fx.Node, arguments: Any, keywords: Any) -> Any:
    """Return the results of a traced operator."""
    translation = TRANSLATIONS.get(str(node.target))
    if translation is not None:
        found = translation(b, node, *arguments, **keywords)
        if found is not NotImplemented:
            return found
    return b.call(node, arguments, keywords)
