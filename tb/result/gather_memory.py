"""Answers an epilogue's requests for biases and scales."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from loopnest_hw.config import EPILOGUE_READS
from loopnest_hw.tokens import gather_reply, gather_request
from loopnest_sim.image import ADDRESS_SPACE, Image
from tb.streams import Sink, Source


class GatherMemory:
    """The streams ``request`` and ``reply`` of the device, in front of an image.

    Attributes
    ----------
    image : Image
        The memory; it may be replaced.
    offsets : tuple of int
        Offsets to subtract from the addresses of biases and scales, modulo 2^32.
    requests : int
        Requests taken.
    """

    def __init__(self, dut: Any, rng: random.Random, stall: float, latency: int) -> None:
        self.image = Image()
        self.offsets = (0, 0)
        self.requests = 0
        self._clock = dut.clk
        self._latency = latency
        self._cycle = 0
        self._waiting: list[tuple[int, list[int]]] = []
        self._source = Source(dut, "reply", gather_reply(2 * EPILOGUE_READS), rng, stall=stall)
        Sink(dut, "request", gather_request(2 * EPILOGUE_READS), rng, stall=stall, check=self._take)
        cocotb.start_soon(self._count())
        cocotb.start_soon(self._answer())

    def _take(self, request: dict[str, Any]) -> None:
        assert request["valid"], "a request without items"
        found = []
        for lane, address in enumerate(request["address"]):
            at = (address - self.offsets[lane // EPILOGUE_READS]) % ADDRESS_SPACE
            wanted = request["valid"] >> lane & 1
            found.append(int(self.image.view(at, 1, np.uint32)[0]) if wanted else 0)
        self._waiting.append((self._cycle + self._latency, found))
        self.requests += 1

    async def _count(self) -> None:
        while True:
            await RisingEdge(self._clock)
            self._cycle += 1

    async def _answer(self) -> None:
        while True:
            if self._waiting and self._waiting[0][0] <= self._cycle:
                await self._source.send(self._waiting.pop(0)[1])
            else:
                await RisingEdge(self._clock)
