"""A memory that answers line requests late and in any order."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.tokens import line_reply, line_request
from tb.streams import Sink, encode


class LineMemory:
    """Answers the requests at ``request`` on ``reply``, one line per cycle.

    Parameters
    ----------
    image : NDArray[np.uint8]
        The memory from address 0 on, whole lines; beyond its end it begins again.
    latency : int
        Cycles from the request to the answer, at least 1.
    spread : int
        Maximum additional cycles, different for each line: answers overtake each other.
    stall : float
        Probability of not taking a request in a cycle.
    bad_lines : set of int
        Lines that are answered with an error.

    It asserts that no slot is requested again before it is answered.
    """

    def __init__(
        self,
        dut: Any,
        config: ChipConfig,
        image: NDArray[np.uint8],
        rng: random.Random,
        *,
        latency: int,
        spread: int = 0,
        stall: float = 0.0,
        bad_lines: frozenset[int] = frozenset(),
    ) -> None:
        self._dut = dut
        self._config = config
        self._image = image
        self._rng = rng
        self._latency = latency
        self._spread = spread
        self.bad_lines = bad_lines
        self._waiting: list[tuple[int, dict[str, int]]] = []
        self._cycle = 0
        self.lines: list[int] = []
        """The requested lines, in order."""
        self.slots: list[int] = []
        """Their slots."""
        self._requests = Sink(
            dut, "request", line_request(config), rng, stall=stall, check=self._ask
        )
        cocotb.start_soon(self._answer())

    @property
    def quiet(self) -> bool:
        """Whether every request was answered, except one that is being answered in this cycle."""
        return not self._waiting

    def _ask(self, request: dict[str, int]) -> None:
        line, slot = request["line"], request["slot"]
        assert all(other["slot"] != slot for _, other in self._waiting), f"slot {slot} is in use"
        self.lines.append(line)
        self.slots.append(slot)
        due = self._requests.cycles[-1] + self._latency + self._rng.randint(0, self._spread)
        self._waiting.append((due, request))

    async def _answer(self) -> None:
        layout = line_reply(self._config)
        reply = self._dut.reply__payload
        while True:
            # An answer set in this cycle is transferred at its end, one cycle later.
            due = [item for item in self._waiting if item[0] <= self._cycle + 1]
            self._dut.reply__valid.value = int(bool(due))
            reply.value = self._rng.getrandbits(len(reply))
            if due:
                item = self._rng.choice(due)
                self._waiting.remove(item)
                line, slot = item[1]["line"], item[1]["slot"]
                start = line * LINE_BYTES % self._image.size
                data = self._image[start : start + LINE_BYTES].tobytes()
                answer = {
                    "data": int.from_bytes(data, "little"),
                    "slot": slot,
                    "error": int(line in self.bad_lines),
                }
                reply.value = encode(layout, answer)
            await RisingEdge(self._dut.clk)
            self._cycle += 1
