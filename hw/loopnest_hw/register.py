"""Registers of payloads."""

from typing import Any

from amaranth.hdl import Module, Signal


def payload_register(m: Module, output: Any) -> Any:
    """Return the register that drives the payload of an output stream.

    It has no reset: nothing reads it before ``valid``, which has one.
    """
    register = Signal(output.payload.shape(), name="payload", reset_less=True)
    m.d.comb += output.payload.eq(register)
    return register
