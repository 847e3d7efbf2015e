"""Golden function of the prefetcher: the lines that the cache reads ahead."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import ADDRESS_BITS, LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import PREFETCHES


def prefetched_lines(config: ChipConfig, descriptor: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the byte addresses of the lines that are read ahead, in order; each memory port asks
    for its own, in this order.
    """
    if not config.cached:
        return np.zeros(0, np.int64)
    ranges = []
    for n in range(PREFETCHES):
        address = descriptor[f"prefetch.{n}.address"] // LINE_BYTES * LINE_BYTES
        ranges.append(address + LINE_BYTES * np.arange(descriptor[f"prefetch.{n}.lines"]))
    return np.concatenate(ranges) % (1 << ADDRESS_BITS)
