"""Programs: planned once, run with any inputs of the same shapes."""

import re

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue, Program, Tensor
from loopnest.program.steps import HostStep, KernelStep

INT8 = Chip("single", dtype="int8", backend="model")
BF16 = Chip("single", dtype="bf16", backend="model")
CHIPS = {"int8": INT8, "bf16": BF16}


def integers(rng, shape, density=1.0, low=-4, high=4):
    values = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < density, values, 0).astype(np.float64)


def sparse(rng, shape, density=0.2):
    return sp.csr_array(integers(rng, shape, density))


def dense(x):
    if isinstance(x, Tensor):
        return np.asarray(x.to_dense())
    return x.toarray() if sp.issparse(x) else np.asarray(x)


@pytest.mark.parametrize("dtype", CHIPS)
def test_one_statement(dtype):
    rng = np.random.default_rng(1)
    A, x = sparse(rng, (30, 40)), integers(rng, 40)
    program = loopnest.compile("y[i] = A[i,j] * x[j]", {"A": A, "x": x}, chip=CHIPS[dtype])
    assert program.inputs == ("A", "x") and program.results == ("y",)
    assert program.report is None and not program.layers
    assert np.array_equal(program(), A @ x)
    other, B = integers(rng, 40), sparse(rng, (30, 40))
    assert np.array_equal(program.run(x=other)["y"], A @ other)
    assert np.array_equal(program(B, other), B @ other)
    assert np.array_equal(program(), A @ x)
    assert program.report is not None and program.report.multiplies == A.nnz


def test_on_another_chip(monkeypatch):
    """The plans are those of the first chip; the reports are apart."""
    rng = np.random.default_rng(7)
    A, x, other = sparse(rng, (30, 40)), integers(rng, 40), integers(rng, 40)
    text = ["h[i] = A[i,j] * x[j]", "y[j] = A[i,j] * h[i]"]
    program = loopnest.compile(text, {"A": A, "x": x}, chip=INT8)
    program()
    slow = Chip("single", dtype="int8", backend="model", memory=loopnest.Memory(latency=100))
    with monkeypatch.context() as patched:
        patched.setattr("loopnest.program.program.build", None)
        patched.setattr("loopnest.program.start.lower_list", None)
        second = program.on(slow)
        assert np.array_equal(second(A, other), A.T @ (A @ other)) and second.text == program.text
    assert np.array_equal(program(), A.T @ (A @ x))
    assert np.array_equal(second(), A.T @ (A @ x)) and type(second) is type(program)
    third = program.on(slow)
    assert third.report is None and second.report.multiplies == 2 * A.nnz
    with pytest.raises(ValueError, match="for a chip with dtype=int8: this one has bf16"):
        program.on(BF16)
    with pytest.raises(TypeError, match="chip='rtl': expected a Chip"):
        program.on("rtl")


def test_samples_of_large_results(monkeypatch):
    """What is known of a result takes the place of its prediction, a sample of many entries."""
    monkeypatch.setattr("loopnest.program.predict.MAX_ENTRIES", 100)
    rng = np.random.default_rng(8)
    A, B = sparse(rng, (300, 40)), sparse(rng, (40, 300))
    h = sp.csr_array(np.eye(300))
    items = [
        Assignment(statement="h[i,j] = A[i,k] * B[k,j]", out="dense,compressed"),
        Assignment(statement="y[i] = h[i,j] * x[j]"),
    ]
    given = {"A": A, "B": B, "x": integers(rng, 300)}
    results = [("y", "y")]
    plain = Program(INT8.device, items, given, results=results)
    told = Program(INT8.device, items, given, results=results, samples={"h": h})
    assert told.expected["y"] < plain.expected["y"] / 4
    assert np.array_equal(told(), A @ (B @ given["x"])) and np.array_equal(told(), plain())


def test_results_of_statements_before():
    """They are not rounded on the way: int8 does not have 300, nor bf16 2^10 + 1."""
    rng = np.random.default_rng(2)
    A, x = integers(rng, (20, 20), low=5, high=9), integers(rng, 20, low=100, high=120)
    b = integers(rng, 20)
    text = ["h[i] = A[i,j] * x[j]", "y[i] = h[i] + b[i]", "z = h[i] * b[i]"]
    for chip in CHIPS.values():
        program = loopnest.compile(text, {"A": A, "x": x, "b": b}, chip=chip)
        assert program.results == ("y", "z")
        y, z = program()
        assert np.array_equal(y, A @ x + b) and z == b @ (A @ x)
        y, z = program(A, -x)
        assert np.array_equal(y, b - A @ x) and z == -b @ (A @ x)
        assert list(program.layers) == ["h", "y", "z"]
        assert program.report.multiplies == sum(r.multiplies for r in program.layers.values())


def test_a_network():
    rng = np.random.default_rng(3)
    weights = [sparse(rng, (24, 32), 0.3), sparse(rng, (16, 24), 0.3)]
    x = integers(rng, (32, 5))
    relu = Epilogue(relu=True)
    program = loopnest.compile(
        [
            Assignment(statement="h[o,n] = V[o,i] * x[i,n]", epilogue=relu),
            Assignment(statement="y[o,n] = W[o,i] * h[i,n]", epilogue=relu),
        ],
        {"V": weights[0], "W": weights[1], "x": x},
        chip=INT8,
    )
    for inputs in (x, integers(rng, x.shape), integers(rng, x.shape, 0.1), -x):
        h = np.maximum(weights[0] @ inputs, 0)
        assert np.array_equal(program.run(x=inputs)["y"], np.maximum(weights[1] @ h, 0))


STATEMENTS = {
    "several kernels": "y[i] = A[i,j] * b[j] + A[i,j] * A[j,k] * b[k] - b[i]",
    "a tensor twice": "y[i] = A[k,i] * A[k,j] * b[j]",
    "a view": "y[i] = A[i,i] + b[i]",
    "a window": "y[i] = b[i+j] * c[j]",
    "five loops": "y[i] = A[i,j] * A[j,k] * A[k,l] * A[l,m] * b[m]",
    "a mask": "y[i,j] = b[i] * b[j] where A[i,j]",
    "a number": "y[i] = 3 * b[i]",
}


def reference(name, A, b, c):
    return {
        "several kernels": lambda: A @ b + A @ (A @ b) - b,
        "a tensor twice": lambda: A.T @ (A @ b),
        "a view": lambda: np.diag(A) + b,
        "a window": lambda: np.correlate(b, c, "valid"),
        "five loops": lambda: A @ A @ A @ A @ b,
        "a mask": lambda: np.outer(b, b) * (A != 0),
        "a number": lambda: 3 * b,
    }[name]()


@pytest.mark.parametrize("given", ["scipy", "numpy", "tensor"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_other_inputs_of_any_statement(name, given):
    """Whatever is done with the operands, it is done with those of the run."""
    rng = np.random.default_rng(sorted(STATEMENTS).index(name))
    make = {
        "scipy": sp.csr_array,
        "numpy": np.asarray,
        "tensor": lambda array: INT8.tensor(sp.csr_array(array)),
    }[given]
    text = STATEMENTS[name]

    def draw(density):
        every = {
            "A": integers(rng, (12, 12), density, -2, 2),
            "b": integers(rng, 12, low=-2, high=2),
            "c": integers(rng, 3),
        }
        return every, {n: make(v) if n == "A" else v for n, v in every.items() if n in text}

    _, first = draw(0.2)
    program = loopnest.compile(text, first, chip=INT8)
    for density in (0.2, 0.2, 0.02, 0.9):
        every, inputs = draw(density)
        found = dense(program.run(**inputs)["y"])
        assert np.array_equal(found, reference(name, *every.values())), (name, density)


def test_of_results_too():
    """Views, masks and the values of semirings are made of results, too."""
    rng = np.random.default_rng(5)
    A, b = sparse(rng, (12, 12), 0.3), integers(rng, 12)
    text = [
        "T[i,j] = A[i,k] * A[k,j]",
        "d[i] = T[i,i]",
        "w[i] = d[i+j] * c[j]",
        "m[i,j] = b[i] * b[j] where T[i,j]",
        Assignment(statement="r[i] = T[i,j] * b[j]", semiring="or_and"),
    ]
    c = np.array([1.0, -2.0])
    program = loopnest.compile(text, {"A": A, "b": b, "c": c}, chip=INT8)
    for B in (A, sparse(rng, (12, 12), 0.3), sparse(rng, (12, 12), 0.05)):
        found = {name: dense(value) for name, value in program.run(A=B).items()}
        T = (B @ B).toarray()
        there = ((B != 0).astype(int) @ (B != 0).astype(int)).toarray() > 0
        assert np.array_equal(found["w"], np.correlate(np.diag(T), c, "valid"))
        assert np.array_equal(found["m"], np.where(there, np.outer(b, b), 0))
        assert np.array_equal(found["r"], ((T != 0) & (b != 0)).any(axis=1))


def test_compacted_statements_are_planned_for_each_pattern():
    rng = np.random.default_rng(6)

    def hyper():
        at = rng.integers(0, 5000, (2, 40))
        return sp.coo_array((np.ones(40), tuple(at)), (5000, 5000)).tocsr()

    A = hyper()
    program = loopnest.compile("C[i,j] = A[i,k] * A[k,j]", {"A": A}, chip=BF16)
    for B in (A, hyper(), hyper()):
        assert (program(B) != B @ B).nnz == 0


def test_larger_and_infinite_values_are_planned_for():
    """A pruned array is stored without its zeros only where its partner is finite."""
    rng = np.random.default_rng(7)
    W, x = integers(rng, (64, 96), 0.2), integers(rng, 96)
    program = loopnest.compile("y[i] = W[i,j] * x[j]", {"W": W, "x": x}, chip=BF16)
    assert program() is not None and program.report.stored
    far = x.copy()
    far[3] = np.inf
    with np.errstate(invalid="ignore"):
        assert np.array_equal(program.run(x=far)["y"], W @ far, equal_nan=True)
    assert np.array_equal(program.run(x=2.0**20 * x)["y"], W @ (2.0**20 * x))
    assert np.array_equal(program()[:3], (W @ x)[:3])


def test_nothing_runs_before_the_start(monkeypatch):
    for name in ("run_kernel", "run_start"):
        monkeypatch.setattr(f"loopnest.program.device.{name}", lambda *_: 1 / 0)
    rng = np.random.default_rng(8)
    text = ["h[i] = A[i,j] * A[j,k] * x[k]", "y[i] = h[i] + h[i]"]
    program = loopnest.compile(text, {"A": sparse(rng, (50, 50)), "x": np.ones(50)}, chip=INT8)
    assert len(program.explain().plans) >= 3
    shown = str(program)
    assert "for i" in shown and "expected" in shown
    with pytest.raises(ZeroDivisionError):
        program()
    assert program.report is None


def test_slots_of_an_intermediate(slots_run_out):
    """Where the accumulator turns out to be too small, the statement is computed otherwise."""
    rng = np.random.default_rng(9)
    A = sparse(rng, (20, 20), 0.5)
    program = loopnest.compile(["B[i,j] = A[i,k] * A[k,j]", "y[i] = B[i,j] * x[j]"],
                               {"A": A, "x": np.ones(20)}, chip=INT8)  # fmt: skip
    failed = slots_run_out()
    assert np.array_equal(program(), A @ A @ np.ones(20)) and failed
    failed.clear()
    assert np.array_equal(program(), A @ A @ np.ones(20)) and failed


@pytest.fixture
def lengths(monkeypatch):
    """The kernels of each start that is run."""
    from loopnest.program import device

    found, real = [], device.run_start

    def watched(config, backend, start, *rest):
        found.append(len(start.steps))
        return real(config, backend, start, *rest)

    monkeypatch.setattr(device, "run_start", watched)
    return found


def test_a_chain_ends_where_its_results_would_not_fit_the_memory(monkeypatch, lengths):
    rng = np.random.default_rng(13)
    A, x = sparse(rng, (16, 16)), integers(rng, (16, 16), low=-1, high=1)
    text = [f"h{n + 1}[i,j] = A[i,k] * h{n}[k,j]" for n in range(4)]
    skip = "y[i,j] = h4[i,j] + h1[i,j]"
    last, one = A @ A @ A @ A @ x, 16 * 16 * 4
    for most, statements, found in (
        (1 << 31, text, [4]),
        (2 * one, text, [4]),  # what is read no more makes room
        (2 * one, [*text, skip], [2, 3]),
        (3 * one, [*text, skip], [5]),
        (one, text, [1, 1, 1, 1]),
    ):
        monkeypatch.setattr("loopnest.program.chain.MAX_REGIONS", most)
        lengths.clear()
        program = loopnest.compile(statements, {"A": A, "h0": x}, chip=INT8)
        expected = last if statements is text else last + A @ x
        assert np.array_equal(dense(program()), expected) and lengths == found


def test_a_chain_ends_where_its_operands_would_not_fit_the_memory(monkeypatch, lengths):
    """One that several kernels read in the same form is there once."""
    rng = np.random.default_rng(14)
    W = {f"W{n}": integers(rng, (16, 16), low=1) for n in range(3)}
    x, one = integers(rng, (16, 4), low=-1, high=1), 16 * 16
    names = ["W0", "W1", "W2", "W0"]
    steps = [
        Assignment(statement=f"h{n + 1}[i,j] = {name}[i,k] * h{n}[k,j]", order="ikj")
        for n, name in enumerate(names)
    ]
    expected = W["W0"] @ W["W2"] @ W["W1"] @ W["W0"] @ x
    for most, found in ((4 * one, [4]), (3 * one, [2, 2]), (2 * one, [1, 1, 1, 1])):
        monkeypatch.setattr("loopnest.program.chain.MAX_BROUGHT", most)
        lengths.clear()
        program = loopnest.compile(steps, {**W, "h0": x}, chip=INT8)
        assert np.array_equal(program(), expected) and lengths == found


def test_steps():
    rng = np.random.default_rng(10)
    A = sparse(rng, (8, 8))
    text = "C[i,m] = A[i,j] * A[j,k] * A[k,l] * A[l,m]"
    steps = loopnest.compile(text, {"A": A}, chip=INT8).explain().steps
    assert any(isinstance(step, KernelStep) for step in steps)
    for step in steps:
        if isinstance(step, HostStep):
            assert step.what in str(loopnest.compile(text, {"A": A}, chip=INT8))


@pytest.mark.parametrize(
    ("source", "inputs", "message"),
    [
        (3, {}, "3: expected a statement"),
        ([], {}, "expected a statement or a sequence"),
        (["y = x[i]", 4], {"x": [1]}, "4: expected a statement or an Assignment"),
        ("y[i] = x[i] * z[i]", {"x": [1]}, "operand 'z' of 'y.i. = x.i. . z.i.' is missing"),
        (["a[i] = b[i]", "b[i] = x[i]"], {"x": [1]}, "operand 'b' of 'a.i. = b.i.' is missing"),
        ("y[i] = x[i]", {"x": [1], "w": [2]}, "input 'w': no statement has it"),
        (["y[i] = x[i]", "y[i] = 2 * x[i]"], {"x": [1]}, "'y' is computed before"),
        (["y[i] = x[i]", "z[i] = y[i] * x[i]", "x[i] = z[i]"], {"x": [1]}, "'x' is an input"),
        ("y[i] = x[i]", [1], "inputs=.1.: expected the operands by name"),
        ("y[i] = x[i,j]", {"x": [1]}, "x has shape .1,.: expected 2 dimensions"),
    ],
)
def test_errors(source, inputs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        loopnest.compile(source, inputs, chip=INT8)


@pytest.mark.parametrize("limit", ["MAX_REGION", "MAX_REGIONS", "MAX_BROUGHT"])
def test_results_that_may_be_too_large_end_a_list(limit, monkeypatch):
    """Results are the same; the explanation and the report say why."""
    rng = np.random.default_rng(3)
    narrow = Epilogue(out="narrow", clamp=(0, 100))
    statements = [
        Assignment(statement="T[i,j] = A[i,k] * B[k,j]", order="ikj", epilogue=narrow),
        Assignment(statement="U[i,j] = T[i,k] * B[k,j]", order="ikj", epilogue=narrow),
        Assignment(statement="y[i] = U[i,j] * x[j]", order="ij"),
    ]
    given = {name: sparse(rng, (60, 60), 0.1) for name in "AB"} | {"x": integers(rng, 60)}
    whole = loopnest.compile(statements, given, chip=INT8)
    assert not whole.explain().cuts and "another start" not in str(whole)
    wanted = [whole.run(**more)["y"] for more in ({}, {"A": given["B"]})]
    assert "another start" not in str(whole.report) and whole.report.starts == ()
    monkeypatch.setattr(f"loopnest.program.chain.{limit}", 3000)
    cut = loopnest.compile(statements, given, chip=INT8)
    assert len(cut.contents.stages) > len(whole.contents.stages) == 1
    found = [cut.run(**more)["y"] for more in ({}, {"A": given["B"]})]
    assert all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert re.search(r"another start: .* bytes.* 3,000", str(cut))
    assert any("3,000" in why for why in cut.report.to_dict()["starts"])
    assert any("3,000" in why for why in cut.explain().to_dict()["starts"].values())
    assert "another start" in str(cut.report)


def test_errors_of_runs():
    program = loopnest.compile("y[i] = 2 * x[i]", {"x": np.ones(3)}, chip=INT8)
    with pytest.raises(ValueError, match=r"x has shape \(4,\): expected \(3,\)"):
        program(np.ones(4))
    with pytest.raises(TypeError, match="input 'z': expected one of x"):
        program.run(z=1)
    with pytest.raises(TypeError, match="2 inputs: expected up to 1"):
        program(np.ones(3), 1)
    with pytest.raises(ValueError, match="x"):
        program([1.0, np.nan, 2.0])
    with pytest.raises(TypeError, match="chip=None: expected a Chip"):
        loopnest.compile("y = x[i]", {"x": [1]}, chip=None)
    assert np.array_equal(program(), [2, 2, 2])


def test_views_of_dense_results():
    """Windows, diagonals and strides of what a statement before computes."""
    rng = np.random.default_rng(11)
    x, c, A, B = integers(rng, 9), integers(rng, 3), integers(rng, (6, 6)), integers(rng, (6, 6))
    text = ["h[i] = 2 * x[i]", "y[i] = h[i+j] * c[j]"]
    program = loopnest.compile(text, {"x": x, "c": c}, chip=INT8)
    for z in (x, integers(rng, 9)):
        assert np.array_equal(program.run(x=z)["y"], np.correlate(2 * z, c, "valid"))
    text = ["T[i,j] = A[i,k] * B[k,j]", "y[i] = T[i,i]"]
    program = loopnest.compile(text, {"A": A, "B": B}, chip=INT8)
    for C in (A, integers(rng, (6, 6))):
        assert np.array_equal(program.run(A=C)["y"], np.diag(C @ B))


def test_zeros_are_left_out_again_after_other_inputs():
    W = np.full((64, 64), 2.0)
    W[:, 0] = 0
    x, other = np.ones(64), np.full((64, 64), np.inf)
    other[:, :20] = 2
    ring = Assignment(statement="y[i] = W[i,j] * x[j]", semiring="min_plus")
    program = loopnest.compile(ring, {"W": W, "x": x}, chip=BF16)
    for given, expected in ((W, 1), (other, 3), (W, 1), (other, 3)):
        assert np.all(program.run(W=given)["y"] == expected)


def test_zeros_are_left_out_of_what_the_host_has_made_of_an_input():
    """The host fuses two indices of E, since there are five, and E is then stored without zeros."""
    E, array = np.zeros((4, 4, 4, 4)), integers(np.random.default_rng(1), (4, 4, 4, 4), 0.5)
    E[0, 1, 2, 3] = 2
    B = sp.coo_array(array)
    text = Assignment(statement="X[i,j] = E[i,k,l,m] * B[k,l,m,j]", out="dense,dense")
    program = loopnest.compile(text, {"E": E, "B": B}, chip=INT8)
    assert any("fuse" in s.what for s in program.contents.stages if isinstance(s, HostStep))
    for given in (E, np.arange(256).reshape(E.shape) % 5, np.eye(16).reshape(E.shape), E):
        expected = np.einsum("iklm,klmj->ij", given, array)
        assert np.array_equal(program.run(E=given)["X"], expected)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_arrays_that_are_changed_after_they_were_compiled(make):
    rng = np.random.default_rng(12)
    W, x, bias = make(integers(rng, (40, 40), 0.1)), integers(rng, 40), np.zeros(40)
    text = [
        Assignment(statement="h[i] = W[i,j] * x[j]", epilogue=Epilogue(bias=bias)),
        "y[i] = W[i,i] + h[i]",
    ]
    program = loopnest.compile(text, {"W": W, "x": x}, chip=BF16)
    before = program()
    (W.data if sp.issparse(W) else W)[...] = 3
    x[3] = np.inf
    bias[:] = 5
    assert np.array_equal(program(), before)


@pytest.mark.parametrize("out", ["dense", "compressed"])
def test_a_result_as_a_mask(out):
    """A dense one keeps where it is not 0, as an array does."""
    text = [Assignment(statement="g[i] = h[i]", out=out), "y[i] = b[i] where g[i]"]
    h, b = sp.coo_array(np.array([1.0, 0, 2])), np.ones(3)
    program = loopnest.compile(text, {"h": h, "b": b}, chip=INT8)
    assert np.array_equal(dense(program()), [1, 0, 1])
    other = sp.coo_array(np.array([0, 3.0, 2]))
    assert np.array_equal(dense(program.run(h=other)["y"]), [0, 1, 1])


def test_a_mask_that_keeps_nothing(tmp_path):
    """An epilogue that makes 0 another value has no fiber to fill."""
    text = Assignment(statement="X[i,j] = B[i,j] where M[i]", epilogue=Epilogue(bias=2.0))
    B = np.arange(6).reshape(2, 3)
    program = loopnest.compile(text, {"B": B, "M": np.ones(2)}, chip=INT8)
    for mask in ([1, 1], [0, 0], [0, 1], [0, 0]):
        expected = (B + 2) * np.array(mask)[:, None]
        assert np.array_equal(program.run(M=mask)["X"], expected)
    program.save(tmp_path / "net.lnp")
    assert not loopnest.load(tmp_path / "net.lnp", chip=INT8).run(M=[0, 0])["X"].any()


def test_a_computed_mask_that_keeps_nothing():
    """In the same start as its use, where nothing can be planned again."""
    layers = [
        Assignment(statement="g[l] = h[l]", out="compressed"),
        Assignment(statement="X[l,j] = B[l,j] where g[l]", epilogue=Epilogue(bias=2.0)),
    ]
    B = np.arange(6).reshape(2, 3)
    program = loopnest.compile(layers, {"B": B, "h": sp.coo_array(np.ones(2))}, chip=INT8)
    for h in ([1, 1], [0, 0], [0, 1], [0, 0]):
        expected = (B + 2) * np.array(h)[:, None]
        assert np.array_equal(program.run(h=sp.coo_array(np.array(h)))["X"], expected)


def test_absent_results_of_a_maximum_are_not_positive():
    A = sp.csr_array(([2.0], ([0], [0])), (64, 64))
    W = np.full((64, 64), np.inf)
    W[:, 1] = 1
    text = [
        Assignment(statement="h[i] = A[i,j] * x[j]", semiring="max_times", out="dense"),
        Assignment(statement="y[i] = W[i,j] * h[j]", semiring="min_plus"),
    ]
    program = loopnest.compile(text, {"A": A, "x": np.ones(64), "W": W}, chip=BF16)
    h = BF16.compute("h[i] = A[i,j] * x[j]", A=A, x=np.ones(64), semiring="max_times", out="dense")
    with np.errstate(invalid="ignore"):
        expected = BF16.compute("y[i] = W[i,j] * h[j]", W=W, h=h, semiring="min_plus")
    assert np.array_equal(program(), expected, equal_nan=True)


def test_a_result_of_too_many_indices():
    inputs = {"a": np.ones((2, 2)), "b": np.ones((2, 2, 2))}
    with pytest.raises(ValueError, match=r"y\[i,j,k,l,m\]: expected up to 4 indices"):
        loopnest.compile("y[i,j,k,l,m] = a[i,j] * b[k,l,m]", inputs, chip=INT8)
