"""Images in the chip's memory, with a border of zeros that neighbours share."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from loopnest_hw.config import COORDINATE_BITS

from ..arguments import integer
from ..expression.sources import as_source
from ..formats.tensor import Tensor
from .windows import Each, Pads, Sides, each, sides

ORDERS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC")}
"""Orders of an array's modes, by dimensions."""


class CrowdedError(ValueError):
    """Images have no room between them: two pixels, or a pixel and a border, would be in one place.

    ``pitch`` is that of a layout with room, with the border of the windows (`ImageLayout.make`);
    None if it is not known.
    """

    def __init__(self, message: str, pitch: tuple[int, ...] | None = None) -> None:
        super().__init__(message)
        self.pitch = pitch


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """The place of a batch of images in a tensor of shape ``(positions, channels)``.

    Pixel (n, y, x) is the row ``origin + n * image_step + y * row_step + x * pixel_step``. Every
    row that is no pixel is 0, so the border to the right of a row is also that to the left of the
    next one, and the border below an image that above the next one.

    Parameters
    ----------
    batch, height, width, channels : int
        Height is 1 for signals of one dimension.
    origin, image_step, row_step, pixel_step, positions : int
        In rows of the tensor.
    dimensions : int
        1 (N, C, W) or 2 (N, C, H, W).

    Raises
    ------
    ValueError
        For a size below 1, more than 2^20 positions, or two pixels in one place.
    TypeError
        For what is not an integer.
    """

    batch: int
    height: int
    width: int
    channels: int
    origin: int
    image_step: int
    row_step: int
    pixel_step: int
    positions: int
    dimensions: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = integer(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            least = int(field.name != "origin")
            if value < least:
                raise ValueError(f"{field.name}={value}: expected {least} or more")
        if self.dimensions > 2 or (self.dimensions == 1 and self.height > 1):
            raise ValueError(
                f"dimensions={self.dimensions}, height={self.height}: "
                f"expected 2, or 1 with height 1"
            )
        if self.positions > 1 << COORDINATE_BITS:
            raise ValueError(
                f"images of {self._shown} take {self.positions} positions with their border: "
                f"expected up to 2^{COORDINATE_BITS}"
            )
        crowded = self.batch * self.height * self.width > self.positions
        if not crowded:
            pixels = self.pixels.reshape(-1)
            crowded = pixels.max() >= self.positions or len(np.unique(pixels)) < len(pixels)
        if crowded:
            raise CrowdedError(f"{self}: expected a position of its own for each pixel")

    @classmethod
    def make(
        cls,
        batch: int,
        size: Sequence[int],
        channels: int,
        *,
        border: Pads = 0,
        pitch: Each = 1,
        strides: Each = 1,
    ) -> Self:
        """Return the layout with the fewest positions.

        Parameters
        ----------
        size : (width,) or (height, width)
        border : int, or for each dimension an int or (before, after)
            Rows and columns of zeros around each image.
        pitch : int, or one for each dimension
            Least number of pixels from one image to the next, or from one row to the next: room for
            results that are larger than the images, or have a larger border.
        strides : int, or one for each dimension
            The products of the strides to come, for whose results pixels lie as densely as possible
            (`convolution`): neighbours in the dimension with the larger one are neighbours here,
            and the other steps are multiples of it.
        """
        dimensions = len(size)
        if dimensions not in ORDERS:
            raise ValueError(f"size={tuple(size)}: expected (width,) or (height, width)")
        height, width = (1, *size)[-2:]
        pads = ((0, 0), *sides("border", border, dimensions))[-2:]
        rows, columns = (
            max(least, n + max(pair))
            for least, n, pair in zip(
                (1, *each("pitch", pitch, dimensions, least=1))[-2:],
                (height, width),
                pads,
                strict=True,
            )
        )
        along, across = (1, *each("strides", strides, dimensions, least=1))[-2:]
        if along > across:
            row_step, pixel_step = 1, -(-rows // along) * along
            image_step = pixel_step * columns
        else:
            row_step, pixel_step = -(-columns // across) * across, 1
            image_step = row_step * rows
        (top, bottom), (left, right) = pads
        origin = top * row_step + left * pixel_step
        last = (height - 1 + bottom) * row_step + (width - 1 + right) * pixel_step
        return cls(
            batch=batch,
            height=height,
            width=width,
            channels=channels,
            origin=origin,
            image_step=image_step,
            row_step=row_step,
            pixel_step=pixel_step,
            positions=origin + (batch - 1) * image_step + last + 1,
            dimensions=dimensions,
        )

    @property
    def size(self) -> tuple[int, ...]:
        """Width, or height and width."""
        return (self.height, self.width)[-self.dimensions :]

    @property
    def steps(self) -> tuple[int, ...]:
        """Positions from a pixel to the next one in each dimension of `size`."""
        return (self.row_step, self.pixel_step)[-self.dimensions :]

    @property
    def shape(self) -> tuple[int, int]:
        """The tensor's shape."""
        return self.positions, self.channels

    @property
    def waste(self) -> float:
        """Positions for each pixel: 1 where there is nothing between them."""
        return self.positions / (self.batch * self.height * self.width)

    @cached_property
    def pixels(self) -> NDArray[np.int64]:
        """The positions of the pixels, shape ``(batch, height, width)``."""
        return self._at(*map(np.arange, (self.batch, self.height, self.width)))

    @cached_property
    def is_pixel(self) -> NDArray[np.bool_]:
        """Whether a position is that of a pixel, shape ``(positions,)``."""
        found = np.zeros(self.positions, np.bool_)
        found[self.pixels] = True
        return found

    def has_border(self, pads: Sides) -> bool:
        """Return whether there are zeros for these pixels around each image, before and after in
        each dimension.
        """
        (top, bottom), (left, right) = ((0, 0), *pads)[-2:]
        y = np.arange(-top, self.height + bottom)
        x = np.arange(-left, self.width + right)
        outside = (y < 0)[:, None] | (y >= self.height)[:, None] | (x < 0) | (x >= self.width)
        rows, columns = np.nonzero(outside)
        corners = self._at([0, self.batch - 1], y[[0, -1]], x[[0, -1]])
        if np.min(corners) < 0 or np.max(corners) >= self.positions:
            return False
        one = self.origin + y[rows] * self.row_step + x[columns] * self.pixel_step
        every = one + np.arange(self.batch)[:, None] * self.image_step
        return not self.is_pixel[every].any()

    def pack(self, images: ArrayLike, order: str | None = None) -> NDArray[Any]:
        """Return images as an array of `shape`.

        Parameters
        ----------
        images : array_like
            Of PyTorch, NumPy or another library.
        order : str, optional
            The order of its modes: ``"NCHW"`` or ``"NHWC"``, in one dimension ``"NCW"`` or
            ``"NWC"``; by default channels come second.

        Raises
        ------
        ValueError
            For another shape than this layout's.
        """
        array = as_source("images", images)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"images is {type(array).__name__}: expected an array")
        last = self._channels_last(order)
        sizes = self.batch, *self.size, self.channels
        expected = sizes if last else (sizes[0], sizes[-1], *sizes[1:-1])
        if array.shape != expected:
            raise ValueError(f"images of shape {array.shape}: expected {expected}")
        moved = array if last else np.moveaxis(array, 1, -1)
        packed = np.zeros(self.shape, array.dtype)
        packed[self.pixels.reshape(-1)] = moved.reshape(-1, self.channels)
        return packed

    def unpack(self, tensor: Any, order: str | None = None) -> NDArray[Any]:
        """Return the images of a tensor of `shape` as an array; ``order`` as for `pack`.

        Parameters
        ----------
        tensor : Tensor, ndarray or scipy.sparse array

        Raises
        ------
        ValueError
            For another shape than this layout's.
        """
        found = tensor if isinstance(tensor, Tensor) else as_source("tensor", tensor)
        if tuple(found.shape) != self.shape:
            raise ValueError(f"tensor of shape {tuple(found.shape)}: expected {self.shape}")
        if isinstance(found, Tensor):
            found = found.to_dense()
        elif sp.issparse(found):
            found = found.toarray()
        images = found[self.pixels].reshape(self.batch, *self.size, self.channels)
        return images if self._channels_last(order) else np.moveaxis(images, -1, 1)

    @property
    def wanted(self) -> sp.coo_array:
        """The pixels as a mask, a vector of `positions` with a 1 for each."""
        places = np.flatnonzero(self.is_pixel)
        return sp.coo_array((np.ones(len(places), np.int8), (places,)), (self.positions,))

    def _at(self, n: ArrayLike, y: ArrayLike, x: ArrayLike) -> NDArray[np.int64]:
        """Return the positions of all combinations of images, rows and columns."""
        images, rows, columns = (np.asarray(a, np.int64) for a in (n, y, x))
        return (
            self.origin
            + images[:, None, None] * self.image_step
            + rows[:, None] * self.row_step
            + columns * self.pixel_step
        )

    def _channels_last(self, order: str | None) -> bool:
        first, last = ORDERS[self.dimensions]
        if order not in (None, first, last):
            raise ValueError(f"order={order!r}: expected {first} or {last}")
        return order == last

    @property
    def _shown(self) -> str:
        sizes = " x ".join(map(str, (*self.size, self.channels)))
        return f"{sizes} in a batch of {self.batch}"
