"""An AXI4-Lite manager for cocotb tests."""

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge


class AxiLiteManager:
    """Reads and writes registers, one access of each kind at a time.

    The order of address and data, and the cycles before each and before the response is taken, are
    random. It asserts that a response holds until it is taken.

    Parameters
    ----------
    dut : handle
    prefix : str
        The ports are ``{prefix}{signal}``.
    rng : random.Random
    stall : float
        Probability of waiting in each cycle before the next signal rises.
    """

    def __init__(self, dut: Any, prefix: str, rng: random.Random, stall: float = 0.0) -> None:
        self._dut = dut
        self._prefix = prefix
        self._rng = rng
        self.stall = stall

    def _port(self, name: str) -> Any:
        return getattr(self._dut, self._prefix + name)

    async def _pause(self) -> None:
        while self._rng.random() < self.stall:
            await RisingEdge(self._dut.clk)

    async def _send(self, channel: str, **payload: int) -> None:
        await self._pause()
        for name, value in payload.items():
            self._port(name).value = value
        self._port(f"{channel}valid").value = 1
        await RisingEdge(self._dut.clk)
        while not int(self._port(f"{channel}ready").value):
            await RisingEdge(self._dut.clk)
        self._port(f"{channel}valid").value = 0
        for name, value in payload.items():
            self._port(name).value = ~value & ((1 << len(self._port(name))) - 1)

    async def _receive(self, channel: str, *names: str) -> tuple[int, ...]:
        """Wait for valid, then a random time, then take the payload."""
        valid, ready = self._port(f"{channel}valid"), self._port(f"{channel}ready")
        await RisingEdge(self._dut.clk)
        while not int(valid.value):
            await RisingEdge(self._dut.clk)
        seen = tuple(int(self._port(name).value) for name in names)
        await self._pause()
        ready.value = 1
        await RisingEdge(self._dut.clk)
        ready.value = 0
        assert int(valid.value), f"{channel}valid fell before the transfer"
        assert seen == tuple(int(self._port(name).value) for name in names), names
        return seen

    async def write(self, address: int, data: int, strobe: int = 0xF) -> int:
        """Write a register and return the response code."""
        address_task = cocotb.start_soon(self._send("aw", awaddr=address))
        data_task = cocotb.start_soon(self._send("w", wdata=data, wstrb=strobe))
        (response,) = await self._receive("b", "bresp")
        await address_task
        await data_task
        return response

    async def read(self, address: int) -> tuple[int, int]:
        """Read a register and return its value and the response code."""
        await self._send("ar", araddr=address)
        value, response = await self._receive("r", "rdata", "rresp")
        return value, response
