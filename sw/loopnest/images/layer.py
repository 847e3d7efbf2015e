"""A layer on images as a statement of a program."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..epilogue import Epilogue
from ..formats.tensor import Levels
from ..program.program import Assignment
from .layout import ImageLayout


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer as a statement that reads images from one tensor and writes others to another one.

    Attributes
    ----------
    statement : str
        Its operands are the images before and those in ``operands``.
    operands : dict
        What it has besides images, by name: weights, and a mask where only pixels are computed.
    layout : ImageLayout
        Of the result. The rows that are no pixel are 0 whatever the epilogue does.
    order : str or None
        The loops; None: the planner's choice.
    semiring : str
    scale : float or ndarray or None
        What the sums are multiplied by: of an average, one over its pixels; of shape
        ``(positions, 1)`` where that differs between pixels.
    nonnegative : bool
        The result is right only for images without negative values, unless they are stored dense.
    """

    statement: str
    operands: dict[str, Any]
    layout: ImageLayout
    order: str | None = None
    semiring: str = "plus_times"
    scale: Any = None
    nonnegative: bool = False

    def assignment(
        self, epilogue: Epilogue | None = None, *, out: Levels | None = None
    ) -> Assignment:
        """Return the layer as a step of a program (`loopnest.compile`).

        Parameters
        ----------
        epilogue : Epilogue, optional
            Its bias and scale are numbers, or arrays with one for each channel of the result.
        out : str or sequence of str, optional
            Levels of the result: ``"dense,dense"``, or ``"dense,compressed"``, which keeps zeros
            out of the next layer's work. By default compressed where the epilogue makes zeros
            (ReLU, a bound of 0, a threshold).

        Raises
        ------
        ValueError
            For a bias or scale of another shape, or one that an average cannot have.
        """
        channels = (self.layout.channels,)
        for name in ("bias", "scale") if epilogue is not None else ():
            shape = np.shape(getattr(epilogue, name))
            if shape not in ((), channels):
                raise ValueError(
                    f"{name} of shape {shape}: expected a number, or one for each filter or "
                    f"channel of the result, {channels[0]}"
                )
        if self.scale is not None:
            epilogue = self._averaged(epilogue or Epilogue())
        if out is None:
            out = "dense,compressed" if _makes_zeros(epilogue) else "dense,dense"
        return Assignment(
            statement=self.statement,
            order=self.order,
            out=out,
            epilogue=epilogue,
            semiring=self.semiring,
        )

    def _averaged(self, epilogue: Epilogue) -> Epilogue:
        """Return the epilogue of the averages as one of their sums."""
        if epilogue.bias is not None:
            raise ValueError("bias: expected none, since an average's scale comes behind it")
        scale = 1.0 if epilogue.scale is None else np.asarray(epilogue.scale, np.float64)
        if np.ndim(scale) and np.ndim(self.scale):
            raise ValueError(
                f"scale of shape {np.shape(scale)}: expected a number, since the averages are of "
                f"different numbers of pixels"
            )
        return replace(epilogue, scale=self.scale * scale)


def _makes_zeros(epilogue: Epilogue | None) -> bool:
    """Return whether an epilogue makes zeros of other values."""
    if epilogue is None:
        return False
    low, high = epilogue.clamp or (None, None)
    return epilogue.relu or epilogue.threshold > 0 or low == 0 or high == 0
