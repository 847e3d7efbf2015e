"""The harness itself: benches of correct components pass, benches of broken ones fail."""

import uuid
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from tb.formal import Contract, prove_stream_law
from tb.harness import SIMULATORS, bench, describe, generate_once, run_bench
from tb.streams import Sink, Source, decode, encode

ITEM = data.StructLayout(
    {"count": 3, "value": data.ArrayLayout(signed(8), 2), "inner": data.StructLayout({"flag": 1})}
)


class Stage(wiring.Component):
    """Doubles ``count``; one item per cycle, one cycle of latency. `fault` breaks it on purpose."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        super().__init__(
            {"i": In(stream.Signature(ITEM)), "o": Out(stream.Signature(ITEM)).array(1)}
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the stage."""
        m = Module()
        o = self.o[0]
        valid = Signal()
        m.d.comb += [o.valid.eq(valid), self.i.ready.eq(~valid | o.ready)]
        with m.If(self.i.ready):
            m.d.sync += valid.eq(self.i.valid)
            m.d.sync += o.payload.eq(self.i.payload)
            m.d.sync += o.payload.count.eq(self.i.payload.count << 1)
        if self.fault == "payload":
            with m.If(valid & ~o.ready):
                m.d.sync += o.payload.count.eq(0)
        if self.fault == "valid":
            with m.If(~o.ready):
                m.d.sync += valid.eq(0)
        if self.fault == "wait":
            m.d.comb += o.valid.eq(valid & o.ready)
        if self.fault == "value":
            with m.If(self.i.ready & (self.i.payload.value[1] == -100)):
                m.d.sync += o.payload.value[1].eq(0)
        return m


class Queue(wiring.Component):
    """A queue in a memory."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform: Any) -> Module:
        """Build the queue."""
        m = Module()
        m.submodules.fifo = queue = fifo.SyncFIFOBuffered(width=8, depth=4)
        wiring.connect(m, wiring.flipped(self.i), queue.w_stream)
        wiring.connect(m, queue.r_stream, wiring.flipped(self.o))
        return m


class Gated(wiring.Component):
    """A queue that gets items only while the gate is open, which they may not wait for."""

    i: In(stream.Signature(8))
    gate: In(1)
    o: Out(stream.Signature(8))

    def elaborate(self, platform: Any) -> Module:
        """Build the gate and the queue."""
        m = Module()
        m.submodules.queue = queue = Queue()
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        m.d.comb += [
            queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid & self.gate),
            self.i.ready.eq(queue.i.ready & self.gate),
        ]
        return m


def reference(item: dict[str, Any]) -> dict[str, Any]:
    """Return the output of `Stage` for an item."""
    return item | {"count": item["count"] * 2 & 7}


@cocotb.test()
async def stage_doubles(dut: Any) -> None:
    """Random items through `Stage`."""
    rng = bench.rng()
    items = [
        {
            "count": rng.randrange(8),
            "value": [rng.randrange(-128, 128), rng.choice([-100, 100])],
            "inner": {"flag": rng.randrange(2)},
        }
        for _ in range(200)
    ]
    source = Source(dut, "i", ITEM, rng, stall=bench.parameters["source"])
    sink = Sink(dut, "o__0", ITEM, rng, stall=bench.parameters["sink"])
    await bench.start(dut)
    cocotb.start_soon(source.send_all(items))
    received = await sink.wait_for(len(items), idle=200)
    assert received == [reference(item) for item in items]
    assert source.sent == items
    if not bench.parameters["source"] and not bench.parameters["sink"]:
        assert sink.cycles[-1] - sink.cycles[0] == len(items) - 1


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("stalls", [(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)])
def test_sound(simulator: str, stalls: tuple[float, float]) -> None:
    """The correct component passes at all rates."""
    parameters = {"source": stalls[0], "sink": stalls[1]}
    run_bench(Stage(), module=__name__, simulator=simulator, parameters=parameters)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("payload", "o__0 changed its payload before the transfer"),
        ("valid", "o__0 dropped valid before the transfer"),
        ("wait", "of 200 items, then none for 200 cycles"),
        ("value", "assert received =="),
    ],
)
def test_broken(simulator: str, fault: str, message: str, monkeypatch: Any) -> None:
    """Broken components fail, each for its reason."""
    monkeypatch.delenv("LOOPNEST_SEED", raising=False)
    parameters = {"source": 0.3, "sink": 0.6}
    with pytest.raises(AssertionError) as error:
        run_bench(Stage(fault), module=__name__, simulator=simulator, parameters=parameters, seed=7)
    assert message in str(error.value)


def test_text_is_of_its_component(monkeypatch: Any) -> None:
    """Equal components share a text; another parameter, port or class makes another one."""
    assert describe(Stage()) == describe(Stage())
    texts = {describe(unit) for unit in (Stage(), Stage("valid"), Queue(), Gated())}
    assert len(texts) == 4
    generated = []

    def generate(component: Any, top: str, **options: Any) -> str:
        generated.append(component)
        return top

    monkeypatch.setattr("tb.harness.to_verilog", generate)
    stages = [Stage("new"), Stage("new"), Stage(object()), Stage(object())]
    top = f"unit_{uuid.uuid4().hex}"
    assert [generate_once(stage, top) for stage in stages] == [top] * 4
    # an object without parameters of its own in its text is not known again
    assert generated == [stages[0], *stages[2:]]


def test_no_tests() -> None:
    """A run without tests is a failure."""
    with pytest.raises(AssertionError, match="no test ran"):
        run_bench(Stage(), module="tb.streams", simulator="verilator")


def test_proofs() -> None:
    """The proof succeeds for correct components."""
    prove_stream_law(Stage(), outputs=["o__0"], inputs_assumed=["i"], depth=6)
    prove_stream_law(Queue(), outputs=["o"], inputs_assumed=["i"], depth=6)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("payload", "o__0: the payload changes"),
        ("valid", "o__0: valid falls"),
        ("wait", "o__0: valid depends on ready"),
    ],
)
def test_disproofs(fault: str, message: str) -> None:
    """The proof finds the fault."""
    with pytest.raises(AssertionError, match=message):
        prove_stream_law(Stage(fault), outputs=["o__0"], inputs_assumed=["i"], depth=6)


def test_parts() -> None:
    """A part is replaced by its contract, and what the contract assumes is proved."""
    given = {"outputs": ["o"], "inputs_assumed": ["i"]}
    prove_stream_law(Gated(), **given, parts={Queue: Contract(outputs=["o"])})
    with pytest.raises(AssertionError, match="o: valid falls"):
        prove_stream_law(Gated(), **given, parts={Queue: Contract(outputs=[])})
    with pytest.raises(AssertionError, match=r"queue\.i: valid falls"):
        prove_stream_law(Gated(), **given, parts={Queue: Contract(outputs=["o"], inputs=["i"])})
    steady = Contract(outputs=["o"], steady=["i__payload"])
    with pytest.raises(AssertionError, match=r"queue\.steady"):
        prove_stream_law(Gated(), **given, parts={Queue: steady})


def test_codec() -> None:
    """Values survive encoding and decoding; values that do not fit are refused."""
    item = {"count": 5, "value": [-128, 127], "inner": {"flag": 1}}
    assert decode(ITEM, encode(ITEM, item)) == item
    assert encode(ITEM, item) == ITEM.const(item).as_value().value
    for bad, message in [
        ({"count": 8}, "8: expected a number"),
        ({"value": [1]}, "expected 2 elements"),
        ({"size": 1}, "'size'"),
    ]:
        with pytest.raises(ValueError, match=message):
            encode(ITEM, bad)
