"""Pipelines whose registers load valid data only, and hold otherwise."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Signal, Value


class Flow:
    """The valid bits of a pipeline, which tell each stage when to load.

    A register that loads nothing but valid data costs no clock while there is none.

    Parameters
    ----------
    m : Module
        The valid bits' registers are added to ``m.d.sync``.
    valid : Value
        There is data at the pipeline's input.
    stages : int
    advance : Value
        The pipeline advances. While it is low, all registers hold.

    Attributes
    ----------
    valid : list of Value
        ``valid[n]``: there is data at the input of stage n; the last is that of the output.
    load : Signal(stages)
        ``load[n]``: stage n takes it in this cycle.
    """

    def __init__(self, m: Module, valid: Value, stages: int, *, advance: Value) -> None:
        self.valid: list[Value] = [valid]
        for n in range(stages):
            register = Signal(name=f"valid_{n}")
            with m.If(advance):
                m.d.sync += register.eq(self.valid[-1])
            self.valid.append(register)
        self.load = Signal(stages)
        m.d.comb += self.load.eq(Cat(valid & advance for valid in self.valid[:-1]))


def delayed(m: Module, value: Value, load: Iterable[Value]) -> Value:
    """Return ``value``, of the same shape, behind one register for each bit of ``load``.

    Registers are added to ``m.d.sync``. They have no reset: their initial values are undefined.
    """
    for bit in load:
        stage = Signal.like(value, reset_less=True, name="delayed")
        with m.If(bit):
            m.d.sync += Value.cast(stage).eq(value)
        value = stage
    return value
