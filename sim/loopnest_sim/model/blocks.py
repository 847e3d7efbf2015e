"""Blocks of the result, as arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES


@dataclass
class Blocks:
    """Some items of a stream of result blocks (`tokens.RESULT_BLOCK`), in order.

    Attributes
    ----------
    coordinate, mask, fiber : NDArray[np.int64]
        Shape ``(n,)``.
    value : NDArray[np.uint32]
        Shape ``(n, 16)``: bits of the values, 0 outside the mask; a narrow one in the low bits.
    last, final : NDArray[np.bool_]
        Shape ``(n,)``.
    """

    coordinate: NDArray[np.int64]
    mask: NDArray[np.int64]
    value: NDArray[np.uint32]
    fiber: NDArray[np.int64]
    last: NDArray[np.bool_]
    final: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        coordinate: Any,
        mask: Any,
        value: Any,
        fiber: Any,
        *,
        last: Any,
        final: Any,
    ) -> "Blocks":
        """Return blocks from anything that can be converted to these arrays."""
        return cls(
            np.asarray(coordinate, np.int64).reshape(-1),
            np.asarray(mask, np.int64).reshape(-1),
            np.asarray(value, np.uint32).reshape(-1, LANES),
            np.asarray(fiber, np.int64).reshape(-1),
            np.asarray(last, np.bool_).reshape(-1),
            np.asarray(final, np.bool_).reshape(-1),
        )

    def __len__(self) -> int:
        return len(self.coordinate)

    def __getitem__(self, rows: Any) -> "Blocks":
        """Return the blocks of an index array, a mask or a slice."""
        return Blocks(
            self.coordinate[rows],
            self.mask[rows],
            self.value[rows],
            self.fiber[rows],
            self.last[rows],
            self.final[rows],
        )

    @property
    def lanes(self) -> NDArray[np.bool_]:
        """The masks' bits, shape ``(n, 16)``."""
        return (self.mask[:, None] >> np.arange(LANES) & 1).astype(np.bool_)

    @property
    def fiber_number(self) -> NDArray[np.int64]:
        """The number of fibers that end before each block."""
        return np.cumsum(self.last) - self.last
