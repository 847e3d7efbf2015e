"""Images of memory: what a program's kernels find there is packed and laid out once."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue
from loopnest.expression.operand import Operand
from loopnest.kernel import backends
from loopnest.kernel.backends import ModelBackend
from loopnest.program import start
from loopnest_sim.image import Image

GARBAGE = 1 << 20
"""Bytes of memory that hold anything before a program is loaded."""


def integers(rng, shape, density=1.0, low=-4, high=4):
    values = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < density, values, 0).astype(np.float64)


class Garbage(Image):
    """Memory that holds anything."""

    def __init__(self):
        super().__init__()
        self.write(0, np.random.default_rng(0).integers(0, 256, GARBAGE, np.uint8))


@pytest.fixture
def chip(monkeypatch):
    monkeypatch.setattr(backends, "Image", Garbage)
    return Chip(dtype="int8", backend="model")


def dense(x):
    return (
        x.toarray() if sp.issparse(x) else np.asarray(x.to_dense() if hasattr(x, "levels") else x)
    )


def layers(rng, out):
    relu = Epilogue(bias=np.arange(16) - 30, scale=1 / 4, relu=True, out="narrow")
    weights = {"V": sp.csr_array(integers(rng, (16, 24), 0.3)), "W": integers(rng, (8, 16), 0.2)}
    return [
        Assignment(statement="h[n,o] = x[n,i] * V[o,i]", epilogue=relu, out=out),
        "y[n,o] = h[n,i] * W[o,i]",
    ], {"x": integers(rng, (5, 24)), **weights}


def expected(x, V, W):
    h = np.clip(np.rint(np.maximum(0, (x @ dense(V).T + np.arange(16) - 30) / 4)), 0, 127)
    return h @ dense(W).T


@pytest.mark.parametrize("out", ["dense,dense", "dense,compressed"])
def test_other_inputs_in_a_memory_that_holds_anything(chip, out):
    rng = np.random.default_rng(1)
    statements, inputs = layers(rng, out)
    program = loopnest.compile(statements, inputs, chip=chip)
    other = loopnest.compile(*layers(rng, out), chip=chip)
    for n, x in enumerate([inputs["x"], integers(rng, (5, 24)), 20 * integers(rng, (5, 24), 0.1)]):
        assert np.array_equal(dense(program(x)), expected(x, inputs["V"], inputs["W"]))
        if n == 1:  # the memory is another program's in between
            other()
    V = sp.csr_array(integers(rng, (16, 24), 0.2))
    got = dense(program.run(V=V)["y"])
    assert np.array_equal(got, expected(inputs["x"], V, inputs["W"]))
    assert np.array_equal(dense(program()), expected(**inputs))


def test_weights_are_packed_and_written_once(chip, monkeypatch):
    rng = np.random.default_rng(2)
    program = loopnest.compile(*layers(rng, "dense,compressed"), chip=chip)
    packed, written = [], []
    pack, take = Operand.packed, ModelBackend._take

    def packs(self, *given):
        packed.append(self.name)
        return pack(self, *given)

    def takes(self, kernels):
        found = take(self, kernels)
        written.extend(address for address, _ in found)
        return found

    monkeypatch.setattr(Operand, "packed", packs)
    program()
    assert sorted(packed) == ["V", "W", "x"]
    monkeypatch.setattr(ModelBackend, "_take", takes)
    monkeypatch.setattr(start, "lower_list", lambda *_: 1 / 0)
    (stage,) = program._plans.contents.stages
    x = next(r for r in stage.image.regions if r.operand.name == "x")
    for _ in range(2):
        packed.clear(), written.clear()
        program(integers(rng, (5, 24)))
        assert packed == ["x"] and written == list(x.placed.addresses)
    packed.clear(), written.clear()
    program()  # with what it was compiled for: it is packed already
    assert not packed and written == list(x.placed.addresses)


def test_denser_inputs(chip, monkeypatch):
    """Twice the entries fit wherever they are; of an array stored without its zeros, all."""
    rng = np.random.default_rng(3)
    A = sp.csr_array((np.ones(9), (np.arange(9), np.arange(9))), (40, 40)).tocoo()
    inputs = {"A": A, "x": np.ones(40), "W": integers(rng, (40, 40), 0.1)}
    text = ["h[i] = A[i,j] * x[j]", "y[i] = W[i,j] * h[j]"]
    program = loopnest.compile(text, inputs, chip=chip)
    first = program._plans
    W = inputs["W"]
    assert np.array_equal(program(), W @ (A @ np.ones(40)))
    for at in ((np.zeros(18), np.arange(18)), (np.arange(18) * 2, np.full(18, 3))):
        B = sp.coo_array((np.full(18, 2.0), np.asarray(at, int)), (40, 40))
        assert np.array_equal(program.run(A=B)["y"], W @ (B @ np.ones(40)))
    laid, real = [], start.lower_list
    monkeypatch.setattr(start, "lower_list", lambda *given: laid.append(1) or real(*given))
    full = np.full((40, 40), 3.0)
    for _ in range(2):
        assert np.array_equal(program.run(W=full)["y"], full @ (A @ np.ones(40)))
    assert laid == [1] and program._plans is first
    assert np.array_equal(program(), W @ (A @ np.ones(40)))
    B = sp.coo_array(integers(rng, (40, 40), 0.9))
    assert np.array_equal(program.run(A=B)["y"], W @ (B @ np.ones(40)))
    assert program._plans is not first


@pytest.mark.parametrize(
    "text",
    [
        "y[i,j] = b[i] * b[j] where A[i,j]",
        "y[i,j] = A[i,k] * A[k,j] where not A[i,j]",
        "y[i] = b[i+j] * A[j,0]",
        "y[i,j] = A[i,j] + A[j,i]",
        "y = A[i,j] * b[j] * b[i]",
    ],
)
def test_any_operands(chip, text):
    rng = np.random.default_rng(4)

    def draw():
        A = chip.tensor(sp.csr_array(integers(rng, (12, 12), 0.3)))
        if rng.random() < 0.5:  # as the chip writes it, with position tables of stride 4
            A = chip.compute("T[i,j] = A[i,j]", A=A, epilogue=Epilogue(out="narrow"))
        return {"A": A, "b": integers(rng, 12)}

    inputs = draw()
    used = {name: value for name, value in inputs.items() if name in text}
    program = loopnest.compile(text, used, chip=chip)
    for _ in range(6):
        found = dense(program.run(**used)["y"])
        assert np.array_equal(found, dense(chip.compute(text, **used)))
        used = {name: value for name, value in draw().items() if name in text}


def test_results_of_the_host(chip):
    """A compressed intermediate that the host rearranges may have any entry."""
    rng = np.random.default_rng(5)
    A, B = sp.csr_array(([1.0], ([0], [0])), (24, 24)), sp.csr_array(integers(rng, (24, 24), 0.3))
    text = ["T[i,j] = A[i,k] * B[k,j]", "d[i] = T[i,i]", "y = d[i] * b[i]"]
    b = integers(rng, 24)
    program = loopnest.compile(text, {"A": A, "B": B, "b": b}, chip=chip)
    assert len(program._plans.contents.stages) == 3
    for other in (A, sp.csr_array(([2.0, 1.0], ([3, 7], [3, 3])), (24, 24))):
        assert program(other) == np.diag((other @ B).toarray()) @ b
