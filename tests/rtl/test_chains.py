"""Chains of kernels: several in one start, whose results stay in the chip's memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue, Memory
from loopnest.images.convolution import convolution
from loopnest.images.layout import ImageLayout
from loopnest.images.pooling import max_pool
from loopnest.nest.result import Part
from loopnest.program.program import Program
from loopnest_hw.registers import OFFSETS, ErrorCode

from .chips import TWO_PORTS, Bits, Pair, on, simulator

LAYERS = 4

START = "set_register", OFFSETS["control"]
"""The access that starts the chip."""


def draw(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> np.ndarray:
    values = rng.integers(-4, 5, shape).astype(np.float64)
    return np.where(rng.random(shape) < density, values, 0)


def network(rng: np.random.Generator, width: int, batch: int) -> tuple[list[Any], dict[str, Any]]:
    """Layers of sparse weights, and compressed activations between two of them."""
    layers = [
        Assignment(
            statement=f"h{n + 1}[o,n] = W{n}[o,i] * h{n}[i,n]",
            epilogue=Epilogue(scale=1 / 4, relu=True, out="narrow"),
            out="dense,compressed" if n == 1 else "dense,dense",
        )
        for n in range(LAYERS)
    ]
    inputs: dict[str, Any] = {
        f"W{n}": sp.csr_array(draw(rng, (width, width), 0.3)) for n in range(LAYERS)
    }
    return layers, {**inputs, "h0": draw(rng, (width, batch), 1)}


def starts(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return the list to which every access of the host is added."""
    found: list[tuple[str, int]] = []
    own = simulator(chip)

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            found.append((name, given[0]))
            return real(*given)

        return call

    for name in ("set_register", "register", "write", "run_until_interrupt"):
        monkeypatch.setattr(own, name, watched(name, getattr(own, name)))
    return found


def by_statements(chip: Chip, program: Program, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the results of a program's statements, each computed by itself."""
    known: dict[str, Any] = {n: chip.tensor(v) if n == "h0" else v for n, v in inputs.items()}
    for layer in (item.source for item in program._items):
        assert isinstance(layer, Assignment)
        text = layer.statement
        used = {n: v for n, v in known.items() if n in text.split("=")[1]}
        found = chip.compute(text, epilogue=layer.epilogue, out=layer.out, **used)
        known[text.split("[")[0]] = found
    return known


@on("shrunk/int8", "shrunk/bf16", TWO_PORTS)
@pytest.mark.parametrize("latency", [4, 100])
def test_a_network_in_one_start(pair: Pair, latency: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, with other inputs, in a memory that holds anything: bit for bit the golden model."""
    chip = pair.chip(Memory(latency=latency, fill=0xA5))
    model = Chip(pair.preset, dtype=pair.dtype, backend="model", memory=chip.memory)
    rng = np.random.default_rng(latency)
    layers, inputs = network(rng, 24, 5)
    program = loopnest.compile(layers, inputs, chip=chip)
    golden = loopnest.compile(layers, inputs, chip=model)
    with monkeypatch.context() as patch:
        accesses = starts(chip, patch)
        for x in (inputs["h0"], draw(rng, (24, 5), 0.5), draw(rng, (24, 5), 0.1)):
            accesses.clear()
            got, expected = program.run(h0=x), golden.run(h0=x)
            control = [n for n, access in enumerate(accesses) if access == START]
            assert len(control) == 1
            assert accesses[control[0] + 1][0] == "run_until_interrupt"
            assert not any(name == "write" for name, _ in accesses[control[0] :])
            (name,) = program.results
            assert Bits(got[name]) == Bits(expected[name])
            for n, layer in enumerate(program.layers.values()):
                own = golden.layers[f"h{n + 1}"]
                assert layer.multiplies == own.multiplies and layer.cycles
                assert layer.leaf_steps == own.leaf_steps
            assert program.report is not None
            assert program.report.cycles == simulator(chip).register(OFFSETS["cycles"])
            assert sum(len(t.ends) for t in program.report.timelines) > 0
    assert not simulator(chip).violations


@on("shrunk/int8", "shrunk/bf16")
def test_layers_on_images_in_one_start(pair: Pair) -> None:
    """Dense and compressed results, with the zeros around them that the next layer reads."""
    rng = np.random.default_rng(4)
    layout = ImageLayout.make(2, (6, 7), 3, border=1, strides=(2, 1))
    weights = draw(rng, (8, 3, 3, 3), 1), draw(rng, (8, 1, 3, 3), 0.5), draw(rng, (5, 8, 1, 1), 1)
    first = convolution(layout, weights[0], padding=1, border=1, image="x", result="a")
    second = convolution(
        first.layout, weights[1], stride=2, padding=1, groups=8, image="a", result="b"
    )
    third = convolution(second.layout, weights[2], image="b", result="c")
    last = max_pool(third.layout, 2, image="c", result="d")
    relu = Epilogue(bias=2, scale=1 / 8, relu=True, out="narrow")
    steps = [
        first.assignment(relu),
        second.assignment(relu, out="dense,dense"),
        third.assignment(relu),
        last.assignment(),
    ]
    operands = {"x": layout.pack(draw(rng, (2, 3, 6, 7), 0.7))}
    for layer in (first, second, third, last):
        operands |= layer.operands
    memory = Memory(latency=20, fill=0xA5)
    model = Chip(pair.preset, dtype=pair.dtype, backend="model", memory=memory, progress=False)
    chip = pair.chip(memory)
    program, golden = (loopnest.compile(steps, operands, chip=c) for c in (chip, model))
    for images in (operands["x"], layout.pack(draw(rng, (2, 3, 6, 7), 0.2))):
        got = program.run(x=images)["d"]
        assert np.any(got) and Bits(got) == Bits(golden.run(x=images)["d"])
        assert program.report.multiplies == golden.report.multiplies
    assert not simulator(chip).violations


@on("shrunk/int8")
def test_a_chain_is_what_its_statements_are(pair: Pair) -> None:
    chip = pair.chip()
    rng = np.random.default_rng(3)
    layers, inputs = network(rng, 20, 3)
    program = loopnest.compile(layers, inputs, chip=chip)
    got = program()
    expected = by_statements(chip, program, inputs)[program.results[0]]
    assert np.array_equal(got, expected.to_dense())


@on("shrunk/int8")
def test_a_chain_that_fails_runs_its_kernels_alone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum beyond int32 is told; what the chain alone could not do is done otherwise."""
    chip = pair.chip()
    big = np.full((40, 40), 127.0)
    text = [f"h{n + 1}[i,j] = A[i,k] * h{n}[k,j]" for n in range(4)]
    program = loopnest.compile(text, {"A": big, "h0": big}, chip=chip)
    with pytest.raises(loopnest.ChipError, match="OVERFLOW"):
        program()
    small = np.eye(40)
    program = loopnest.compile(text, {"A": small, "h0": big}, chip=chip)
    assert np.array_equal(program(), big)
    calls = []
    backend = chip.device.shared.backend
    run = backend.run

    def fails(kernels: Any, progress: Any = None) -> Any:
        calls.append(len(kernels.kernels))
        if len(kernels.kernels) > 1:
            raise loopnest.ChipError(ErrorCode.BUDGET, 0)
        return run(kernels, progress)

    monkeypatch.setattr(backend, "run", fails)
    assert np.array_equal(program(), big)
    assert calls == [4, 1, 1, 1, 1]


@on("shrunk/int8", "shrunk/bf16")
def test_a_saved_program(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as the one that it was saved from, and the weights stay in memory."""
    chip = pair.chip(Memory(latency=4, fill=0x5A))
    rng = np.random.default_rng(4)
    layers, inputs = network(rng, 24, 5)
    program = loopnest.compile(layers, inputs, chip=chip)
    program.save(tmp_path / "net.lnp")
    loaded = loopnest.load(tmp_path / "net.lnp", chip=chip)
    (name,) = program.results
    with monkeypatch.context() as patch:
        accesses = starts(chip, patch)
        for x in (inputs["h0"], draw(rng, (24, 5), 0.5), draw(rng, (24, 5), 0.2)):
            got, expected = loaded.run(h0=x), program.run(h0=x)
            assert Bits(got[name]) == Bits(expected[name])
            assert loaded.report is not None and program.report is not None
            figures, own = loaded.report.to_dict(), program.report.to_dict()
            assert figures["cycles"] == own["cycles"] and figures["stalls"] == own["stalls"]
        loaded.run(h0=x)
        accesses.clear()
        loaded.run(h0=-x)
        assert accesses.count(START) == 1
        assert [name for name, _ in accesses].count("write") == 1
    assert not simulator(chip).violations


@on("shrunk/int8", "shrunk/bf16")
def test_parts_in_their_places(pair: Pair) -> None:
    """Kernels write parts of one tensor, the first one among zeros, in a memory that holds
    anything: twice, with other inputs, bit for bit the golden model.
    """
    rng = np.random.default_rng(8)
    shape = (3, 9, 5)
    first, last = Part(shape, (0, 1, 0), (0, 1, 2)), Part(shape, (0, 8, 0), (0, 2))
    items = [
        Assignment(statement="X0[h,t,d] = A[h,k,t] * V[k,d]", part=first),
        Assignment(statement="X[h,d] = B[h,d]", part=last, base="X0"),
        "Y[h,t,o] = X[h,t,d] * W[d,o]",
    ]
    inputs = {
        "A": draw(rng, (3, 4, 6), 1),
        "V": sp.csr_array(draw(rng, (4, 5), 0.4)),
        "B": draw(rng, (3, 5), 0.8),
        "W": draw(rng, (5, 2), 1),
    }
    chip = pair.chip(Memory(latency=30, fill=0x5A))
    program, golden = (
        loopnest.compile(items, inputs, chip=c)
        for c in (chip, Chip(pair.preset, dtype=pair.dtype, backend="model"))
    )
    for sign in (1, -1):
        given = {**inputs, "B": sign * inputs["B"]}
        found, expected = program.run(**given)["Y"], golden.run(**given)["Y"]
        x = np.zeros(shape)
        x[:, 1:7] = np.einsum("hkt,kd->htd", inputs["A"], inputs["V"].toarray())
        x[:, 8] = given["B"]
        assert Bits(found) == Bits(expected) and np.array_equal(found, x @ inputs["W"])
    assert not simulator(chip).violations
