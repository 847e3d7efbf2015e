"""Access to a device's ports by the values of their layouts."""

import random
import warnings
from typing import Any

from amaranth.hdl import Shape, UnusedElaboratable
from amaranth.lib import wiring

from tb.streams import decode, encode

UNKNOWN = str.maketrans("XxZz", "1111")
"""The value that undefined bits read as."""


class Ports:
    """Reads and drives ports that are not streams, as ``ports["name"]``.

    Values are what `encode` takes; path elements of a name are joined by two underscores.

    Parameters
    ----------
    dut : handle
        The device.
    component : Component
        The component that the device was generated from, with the same configuration.
    """

    def __init__(self, dut: Any, component: wiring.Component) -> None:
        # it is used for its ports only
        warnings.simplefilter("ignore", UnusedElaboratable)
        self._dut = dut
        self._shapes = {
            "__".join(map(str, path)): member.shape
            for path, member, _ in component.signature.flatten(component)
        }

    def _handle(self, name: str) -> Any:
        """Return the port's handle; a port of no bits has none."""
        return getattr(self._dut, name) if Shape.cast(self._shapes[name]).width else None

    def __getitem__(self, name: str) -> Any:
        handle = self._handle(name)
        bits = "" if handle is None else str(handle.value)
        # memory that was never written may be read, as long as its value is not used
        bits = bits.translate(UNKNOWN)
        return decode(self._shapes[name], int(bits or "0", 2))

    def __setitem__(self, name: str, value: Any) -> None:
        bits = encode(self._shapes[name], value)
        handle = self._handle(name)
        if handle is not None:
            handle.value = bits

    def noise(self, name: str, rng: random.Random) -> None:
        """Drive a port with random bits."""
        handle = self._handle(name)
        if handle is not None:
            handle.value = rng.getrandbits(Shape.cast(self._shapes[name]).width)
