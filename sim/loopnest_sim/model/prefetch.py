"""Golden function of the prefetcher: the lines that the cache reads ahead."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import ADDRESS_BITS, LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import PREFETCHES

_NO_LINES = np.zeros(0, np.int64)


def prefetched_lines(config: ChipConfig, descriptor: Mapping[str, int]) -> list[NDArray[np.int64]]:
    """Return the byte addresses of the lines that each memory port reads ahead, in order: the
    ranges take turns.
    """
    return [
        _lines_of_port(config.memory_ports, port, descriptor) if config.cached else _NO_LINES
        for port in range(config.memory_ports)
    ]


def _lines_of_port(ports: int, port: int, descriptor: Mapping[str, int]) -> NDArray[np.int64]:
    found, turn = [], []
    for n in range(PREFETCHES):
        first = descriptor[f"prefetch.{n}.address"] // LINE_BYTES
        lines = first + np.arange(descriptor[f"prefetch.{n}.lines"])
        lines = lines[lines % ports == port]
        found.append(lines % ((1 << ADDRESS_BITS) // LINE_BYTES))
        turn.append(np.arange(len(lines)))
    order = np.argsort(np.concatenate(turn), kind="stable")
    return np.concatenate(found)[order] * LINE_BYTES
