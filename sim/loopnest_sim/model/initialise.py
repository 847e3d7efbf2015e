"""The initialisation of a result's region (hw chip/initialise.py)."""

from collections.abc import Mapping

import numpy as np

from loopnest_hw.config import LINE_BYTES
from loopnest_hw.format import WORD_BYTES

from ..image import Image
from .check import result_regions


def initialised(kernel: Mapping[str, int]) -> tuple[int, int]:
    """Return first address and end of the region that a kernel fills; empty if it fills none."""
    if not kernel["result.initialise"]:
        return 0, 0
    return result_regions(kernel)["table" if kernel["result.compressed"] else "values"]


def initialised_lines(kernel: Mapping[str, int]) -> int:
    """Return the lines of that region: the cycles that filling it takes at least."""
    begin, end = initialised(kernel)
    return -(-(end - begin) // LINE_BYTES)


def initialise(kernel: Mapping[str, int], image: Image) -> None:
    """Fill a compressed result's table with zeros, a dense result's values with
    ``result.background``.
    """
    begin, end = initialised(kernel)
    word = 0 if kernel["result.compressed"] else kernel["result.background"]
    words = np.full(-(-(end - begin) // WORD_BYTES), word, "<u4")
    image.write(begin, words.view(np.uint8)[: end - begin])
