"""A device's ports as the values of their layouts."""

import random
import warnings
from typing import Any

from amaranth.hdl import Shape, UnusedElaboratable
from amaranth.lib import wiring

from tb.streams import decode, encode

UNKNOWN = str.maketrans("XxZz", "1111")
"""What bits without a value read as."""


class Ports:
    """Reads and drives ports that are no streams, as ``ports["name"]``.

    Values are what `encode` takes; path elements of a name are joined by two underscores.

    Parameters
    ----------
    dut : handle
        The device.
    component : Component
        What the device was made of, with the same configuration.
    """

    def __init__(self, dut: Any, component: wiring.Component) -> None:
        # it is there for its ports alone
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
        # what was never written may be looked at, as long as nobody needs it
        bits = bits.translate(UNKNOWN)
        return decode(self._shapes[name], int(bits or "0", 2))

    def __setitem__(self, name: str, value: Any) -> None:
        bits = encode(self._shapes[name], value)
        handle = self._handle(name)
        if handle is not None:
            handle.value = bits

    def noise(self, name: str, rng: random.Random) -> None:
        """Drive a port with anything."""
        handle = self._handle(name)
        if handle is not None:
            handle.value = rng.getrandbits(Shape.cast(self._shapes[name]).width)
