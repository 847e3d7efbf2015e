"""A PE that takes row 0's blocks, and retires their tokens at any pace."""

from collections import deque
from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from loopnest_hw.config import ChipConfig
from loopnest_hw.tokens import joined
from tb.harness import bench
from tb.streams import Sink, Source

Item = dict[str, Any]


class RetiringPE:
    """Takes the items at ``o__N``, and retires each one's tokens in order at ``retired__N``, some
    after a replay or several.

    It asserts that no more weight is held than the credit and a chunk.

    Attributes
    ----------
    credit : int or None
        None: the weight does not count.
    weigh : callable
        Returns a block's weight.
    """

    def __init__(
        self,
        dut: Any,
        config: ChipConfig,
        number: int,
        *,
        credit: int | None = None,
        weigh: Callable[[Item], int] = lambda block: 0,
    ) -> None:
        self.credit = credit
        self.weigh = weigh
        self._rng = bench.rng()
        self._edge = RisingEdge(dut.clk)
        self._held: deque[list[int]] = deque()  # tokens and weight
        self._weight = 0
        self.stopped = False
        """Retires nothing."""
        stall, pace = (self._rng.choice([0.0, 0.3, 0.9]) for _ in range(2))
        self.retired = Source(dut, f"retired__{number}", 1, self._rng, pace)
        self.sink = Sink(dut, f"o__{number}", joined(config, 1), self._rng, stall, self._take)
        cocotb.start_soon(self._run())

    def quick(self) -> None:
        """Take an item per cycle, and retire a token per cycle."""
        self.sink.stall = self.retired.stall = 0.0

    @property
    def items(self) -> list[Item]:
        """The items with lanes."""
        return [item for item in self.sink.received if item["count"]]

    async def end(self) -> None:
        """Wait for the last item, and until all is retired."""
        received = self.sink.received
        while not received or not received[-1]["last"]:
            await self.sink.wait_for(len(received) + 1)
        while self._held:
            await self._edge

    def _take(self, item: Item) -> None:
        if not item["count"]:
            self._held.append([1, 0])  # the null token
            return
        block = item["block"][0]
        weight = self.weigh(block)
        assert self.credit is None or self._weight <= self.credit
        self._weight += weight
        self._held.append([block["lanes"].bit_count(), weight])

    async def _run(self) -> None:
        while True:
            if not self._held or self.stopped:
                await self._edge
                continue
            again = self.retired.stall > 0 and self._rng.random() < 0.2
            await self.retired.send(int(again))
            if not again:
                self._held[0][0] -= 1
                if not self._held[0][0]:
                    self._weight -= self._held.popleft()[1]
