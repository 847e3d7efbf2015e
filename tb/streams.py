"""Drivers and monitors of streams for cocotb tests.

Values are as for Amaranth's layouts: dicts for structures, lists for arrays, integers otherwise.
"""

import random
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import cocotb
from amaranth.hdl import Shape
from amaranth.lib import data
from cocotb.triggers import RisingEdge

Encoder = Callable[[Any], int]
Decoder = Callable[[int], Any]


@cache
def encoder(shape: Any) -> Encoder:
    """Return the function that gives the bits of a value of this shape; members that a dict leaves
    out are 0.

    The function raises ValueError if an integer does not fit, a list has the wrong length or a
    member is unknown.
    """
    if isinstance(shape, data.ArrayLayout):
        length, width = shape.length, Shape.cast(shape.elem_shape).width
        element = encoder(shape.elem_shape)

        def array(value: Any) -> int:
            if len(value) != length:
                raise ValueError(f"{value!r}: expected {length} elements")
            bits = 0
            for v in reversed(value):
                bits = bits << width | element(v)
            return bits

        return array
    if isinstance(shape, data.Layout):
        members = {name: (encoder(field.shape), field.offset) for name, field in shape}

        def structure(value: Any) -> int:
            unknown = value.keys() - members.keys()
            if unknown:
                expected = ", ".join(map(str, members))
                raise ValueError(f"members {unknown}: expected some of {expected}")
            bits = 0
            for name, v in value.items():
                member, offset = members[name]
                bits |= member(v) << offset
            return bits

        return structure
    own = Shape.cast(shape)
    low = -(1 << own.width >> 1) if own.signed else 0
    high, mask = low + (1 << own.width), (1 << own.width) - 1

    def integer(value: Any) -> int:
        number = int(value)
        if not low <= number < high:
            raise ValueError(f"{value!r}: expected a number of {own!r}")
        return number & mask

    return integer


@cache
def decoder(shape: Any) -> Decoder:
    """Return the function that gives the nested dict, list or integer that bits represent."""
    if isinstance(shape, data.ArrayLayout):
        width = Shape.cast(shape.elem_shape).width
        element, shifts = decoder(shape.elem_shape), [i * width for i in range(shape.length)]
        return lambda number: [element(number >> shift) for shift in shifts]
    if isinstance(shape, data.Layout):
        members = [(name, decoder(field.shape), field.offset) for name, field in shape]
        return lambda number: {name: member(number >> offset) for name, member, offset in members}
    own = Shape.cast(shape)
    mask = (1 << own.width) - 1
    if own.signed:
        sign = 1 << own.width >> 1
        return lambda number: ((number & mask) ^ sign) - sign
    return lambda number: number & mask


def encode(shape: Any, value: Any) -> int:
    """Return the bits of a value; errors as `encoder`'s."""
    return encoder(shape)(value)


def decode(shape: Any, number: int) -> Any:
    """Return the nested dict, list or integer that the bits represent."""
    return decoder(shape)(number)


class Source:
    """Drives an input stream of the device.

    Parameters
    ----------
    dut : handle
        The device.
    name : str
        The stream's port, such as ``i``; path elements are joined by two underscores.
    layout : ShapeLike
        Shape of the payload.
    rng : random.Random
        For stalls, and for random payloads while ``valid`` is low.
    stall : float
        Probability of a stall in each cycle before an item.
    """

    def __init__(
        self, dut: Any, name: str, layout: Any, rng: random.Random, stall: float = 0.0
    ) -> None:
        self._edge = RisingEdge(dut.clk)
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        # a payload of no bits has no port
        self._payload = getattr(dut, f"{name}__payload", None)
        self._width = Shape.cast(layout).width
        self._encode = encoder(layout)
        self._rng = rng
        self.stall = stall
        self.sent: list[Any] = []
        self.set_idle()

    def set_idle(self) -> None:
        """Offer nothing; an item whose task was cancelled is abandoned."""
        self._valid.value = 0
        if self._payload is not None:
            self._payload.value = self._rng.getrandbits(self._width)

    async def send(self, value: Any) -> None:
        """Send one item; returns at the clock edge that transfers it."""
        bits = self._encode(value)
        while self._rng.random() < self.stall:
            await self._edge
        self._valid.value = 1
        if self._payload is not None:
            self._payload.value = bits
        await self._edge
        while not int(self._ready.value):
            await self._edge
        self.sent.append(value)
        # overwritten in the same time step if another item follows
        self.set_idle()

    async def send_all(self, values: Iterable[Any]) -> None:
        """Send items in order, back to back without stalls."""
        for value in values:
            await self.send(value)


class Sink:
    """Receives from an output stream of the device, from the end of the reset on.

    It asserts the stream law: once ``valid`` is high, it and the payload hold until the transfer.
    With stalls, it also raises ``ready`` for every other item only after ``valid``: a device whose
    ``valid`` waits for ``ready`` hangs.

    Parameters
    ----------
    dut, name, layout, rng
        As `Source`.
    stall : float
        Probability of not being ready, in each cycle.
    check : callable, optional
        Called with each item when it is received.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        layout: Any,
        rng: random.Random,
        stall: float = 0.0,
        check: Callable[[Any], None] | None = None,
    ) -> None:
        self._edge = RisingEdge(dut.clk)
        self._reset = dut.rst
        self._name = name
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        self._payload = getattr(dut, f"{name}__payload", None)
        self._decode = decoder(layout)
        self._rng = rng
        self._check = check
        self.stall = stall
        self.received: list[Any] = []
        """Items in order of arrival."""
        self.cycles: list[int] = []
        """The clock cycle of each."""
        self._cycle = 0
        self._ready.value = 0
        cocotb.start_soon(self._monitor())

    def _bits(self) -> int:
        return 0 if self._payload is None else int(self._payload.value)

    async def _monitor(self) -> None:
        waiting: int | None = None
        ready = patient = False
        while True:
            await self._edge
            self._cycle += 1
            if int(self._reset.value):
                waiting = None
                if ready:
                    self._ready.value = 0
                ready = False
                continue
            valid = bool(int(self._valid.value))
            bits = self._bits() if valid else 0
            if waiting is not None and (not valid or bits != waiting):
                change = "changed its payload" if valid else "dropped valid"
                raise AssertionError(
                    f"{self._name} {change} before the transfer, in cycle {self._cycle}"
                )
            waiting = bits if valid and not ready else None
            if valid and ready:
                patient = self.stall > 0 and self._rng.random() < 0.5
                value = self._decode(bits)
                self.received.append(value)
                self.cycles.append(self._cycle)
                if self._check is not None:
                    self._check(value)
            before = ready
            ready = self._rng.random() >= self.stall and (not patient or waiting is not None)
            if ready != before:
                self._ready.value = int(ready)

    async def wait_for(self, count: int, idle: int = 20_000) -> list[Any]:
        """Wait until `count` items have been received, in total; return all of them.

        Raises
        ------
        AssertionError
            If nothing arrives for `idle` cycles.
        """
        last, quiet = len(self.received), 0
        while len(self.received) < count:
            await self._edge
            quiet = 0 if len(self.received) != last else quiet + 1
            last = len(self.received)
            if quiet > idle:
                raise AssertionError(
                    f"{self._name}: {last} of {count} items, then none for {idle} cycles"
                )
        return self.received
