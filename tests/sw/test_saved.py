"""Saved programs: the same bits as the program's, loaded without planning."""

import json
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue
from loopnest.graph.graph import Graph, Node
from loopnest.program.operation import HostOperation, Reshape
from loopnest.program.program import Program
from tests.rtl.chips import Bits
from tests.sw.test_programs import STATEMENTS, integers, sparse

INT8 = Chip(dtype="int8", backend="model")
BF16 = Chip(dtype="bf16", backend="model")
CHIPS = {"int8": INT8, "bf16": BF16}


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Return a function that saves a program and loads it without planning."""

    def save(program, chip):
        path = tmp_path / "net.lnp"
        program.save(path)
        with monkeypatch.context() as patch:
            for name in (
                "program.program.build",
                "program.start.lower_list",
                "loops.planner.make_plan",
            ):
                patch.setattr(f"loopnest.{name}", lambda *_, **__: 1 / 0)
            return loopnest.load(path, chip=chip)

    return save


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert type(found[name]) is type(value) and Bits(found[name]) == Bits(value)


def network(rng):
    relu = Epilogue(bias=np.arange(16) - 20, scale=1 / 4, relu=True, out="narrow")
    return [
        Assignment(statement="h[n,o] = x[n,i] * V[o,i]", epilogue=relu, out="dense,compressed"),
        "y[n,o] = h[n,i] * W[o,i]",
    ], {"x": integers(rng, (5, 24)), "V": sparse(rng, (16, 24), 0.3), "W": integers(rng, (8, 16))}


@pytest.mark.parametrize("dtype", CHIPS)
def test_a_network(dtype, saved):
    rng = np.random.default_rng(1)
    program = loopnest.compile(*network(rng), chip=CHIPS[dtype])
    loaded = saved(program, CHIPS[dtype])
    assert (loaded.inputs, loaded.results) == (("x", "V", "W"), ("y",))
    assert str(loaded) == str(program) and loaded.report is None
    assert loaded.expected == program.expected
    same(loaded.run(), program.run())
    for x in (integers(rng, (5, 24)), integers(rng, (5, 24), 0.1)):
        same(loaded.run(x=x), program.run(x=x))
        assert Bits(loaded(x)) == Bits(program(x))
    other = {"V": sparse(rng, (16, 24), 0.4), "W": integers(rng, (8, 16))}
    same(loaded.run(**other), program.run(**other))
    same(loaded.run(), program.run())
    assert loaded.report.to_dict() == program.report.to_dict()
    assert list(loaded.layers) == ["h", "y"]
    for name, layer in loaded.layers.items():
        assert str(layer) == str(program.layers[name])


@pytest.mark.parametrize("given", ["scipy", "numpy", "tensor"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_any_statement(name, given, saved):
    rng = np.random.default_rng(sorted(STATEMENTS).index(name))
    make = {
        "scipy": sp.csr_array,
        "numpy": np.asarray,
        "tensor": lambda array: INT8.tensor(sp.csr_array(array)),
    }[given]
    text = STATEMENTS[name]
    pattern = rng.random((12, 12)) < 0.2

    def draw():
        A = np.where(pattern, rng.integers(1, 4, (12, 12)) * rng.choice([-1, 1], (12, 12)), 0)
        every = {"A": A.astype(float), "b": integers(rng, 12), "c": integers(rng, 3)}
        return {n: make(v) if n == "A" else v for n, v in every.items() if n in text}

    program = loopnest.compile(text, draw(), chip=INT8)
    loaded = saved(program, INT8)
    same(loaded.run(), program.run())
    for _ in range(3):
        inputs = draw()
        same(loaded.run(**inputs), program.run(**inputs))


@pytest.mark.parametrize("semiring", ["or_and", "plus_first", "plus_pair", "min_plus"])
def test_semirings_masks_and_views_of_results(semiring, saved):
    rng = np.random.default_rng(2)
    A, b = sparse(rng, (12, 12), 0.3), integers(rng, 12, low=0)
    text = [
        "T[i,j] = A[i,k] * A[k,j]",
        "d[i] = T[i,i]",
        "w[i] = d[i+j] * c[j]",
        "m[i,j] = b[i] * b[j] where T[i,j]",
        Assignment(statement="r[i] = T[i,j] * b[j]", semiring=semiring),
    ]
    program = loopnest.compile(text, {"A": A, "b": b, "c": np.array([1.0, -2])}, chip=INT8)
    loaded = saved(program, INT8)
    for inputs in ({}, {"A": sparse(rng, (12, 12), 0.3)}, {"b": integers(rng, 12, low=0)}):
        same(loaded.run(**inputs), program.run(**inputs))


def test_operators_of_the_host(saved):
    rng = np.random.default_rng(3)
    softmax = HostOperation(
        result="p", operator="softmax", operands=("s",), attributes={"axis": 1}, shape=(6, 8)
    )
    norm = HostOperation(
        result="z", operator="layer_norm", operands=("r", "g"), attributes={"axes": (2,)},
        shape=(2, 3, 4), wide=True,
    )  # fmt: skip
    items = [
        Assignment(statement="s[i,j] = x[i,k] * W[k,j]"),
        softmax,
        Assignment(statement="t[i,j] = p[i,k] * V[k,j]"),
        Reshape(result="r", operand="t", shape=(2, 3, 4)),
        norm,
    ]
    constants = {"W": integers(rng, (5, 8)), "V": integers(rng, (8, 4)), "g": np.ones(4)}
    program = Program(
        BF16.device, items, {"x": integers(rng, (6, 5))},
        constants=constants, results=[("z", "z"), ("product", "t")],
    )  # fmt: skip
    loaded = saved(program, BF16)
    for x in (integers(rng, (6, 5)), integers(rng, (6, 5), 0.2)):
        same(loaded.run(x=x), program.run(x=x))


def test_results_of_a_model_have_the_names_of_the_graph(saved):
    """One that is an output twice is returned twice, by a loaded program as well."""
    x = np.random.default_rng(2).standard_normal((3, 4)).astype(np.float32)
    nodes = (Node("r", "relu", ("x",)), Node("p", "softmax", ("r",)))
    program = loopnest.compile(Graph({"x": x}, {}, nodes, ("p", "r", "x", "p")), chip=BF16)
    loaded = saved(program, BF16)
    for each in (program, loaded):
        assert each.results == ("p", "r", "x", "p")
        assert list(each.run()) == ["p", "r", "x"]
        p, r, own, again = each(x)
        assert np.array_equal(p, again) and np.allclose(own, x, atol=0.02)
        assert np.allclose(r, np.maximum(own, 0), atol=0.02) and np.allclose(p.sum(axis=1), 1)


def test_hyper_sparse_statements_take_their_own_entries(saved):
    rng = np.random.default_rng(4)

    def hyper():
        at = rng.integers(0, 5000, (2, 40))
        return sp.coo_array((np.ones(40), tuple(at)), (5000, 5000)).tocsr()

    program = loopnest.compile("C[i,j] = A[i,k] * A[k,j]", {"A": hyper()}, chip=BF16)
    loaded = saved(program, BF16)
    same(loaded.run(), program.run())
    with pytest.raises(ValueError, match=r"A: .* leaves out coordinates"):
        loaded(hyper())


def test_a_program_is_saved_as_it_was_compiled(saved):
    """Whatever it has run with, and planned again for."""
    rng = np.random.default_rng(8)
    W, x = integers(rng, (64, 96), 0.2), integers(rng, 96)
    program = loopnest.compile("y[i] = W[i,j] * x[j]", {"W": W, "x": x}, chip=BF16)
    program.run(x=1e9 * x)
    loaded = saved(program, BF16)
    same(loaded.run(), program.run())
    with pytest.raises(ValueError, match="x has values from"):
        loaded(W, 1e9 * x)


def test_inputs_that_were_not_planned_for(saved):
    rng = np.random.default_rng(5)
    A, x = sparse(rng, (60, 60), 0.1), integers(rng, 60)
    inputs = {"A": A, "x": x, "W": integers(rng, (60, 60), 0.1)}
    text = ["h[i] = A[i,j] * x[j]", "y[i] = W[i,j] * h[j]"]
    loaded = saved(loopnest.compile(text, inputs, chip=BF16), BF16)
    before = loaded()
    for given, message in (
        ({"x": np.ones(61)}, r"x has shape \(61,\): expected \(60,\)"),
        ({"z": x}, "input 'z': expected one of A, x, W"),
        ({"x": sp.coo_array(x)}, "x is sparse: expected it dense"),
        ({"A": A.toarray()}, "A is dense: expected it sparse"),
        ({"A": sparse(rng, (60, 60), 0.9)}, "A has [0-9,]+ entries: expected up to"),
        ({"x": 1e9 * x}, "x has values from .* for which the program was compiled"),
        ({"W": np.full((60, 60), 3.0)}, "W has too many entries"),
        ({"x": ["a"] * 60}, "x"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            loaded.run(**given)
    assert np.array_equal(loaded(), before)


def test_a_program_for_another_chip(tmp_path):
    path = tmp_path / "net.lnp"
    loopnest.compile("y[i] = 2 * x[i]", {"x": np.ones(3)}, chip=INT8).save(path)
    with pytest.raises(
        ValueError, match=r"net.lnp: the program is for a chip with dtype=int8: this one has"
    ):
        loopnest.load(path, chip=BF16)
    other = Chip(dtype="int8", backend="model", slots=256)
    with pytest.raises(ValueError, match="for a chip with slots=512: this one has 256"):
        loopnest.load(path, chip=other)
    with pytest.raises(TypeError, match="chip=None: expected a Chip"):
        loopnest.load(path, chip=None)
    with pytest.raises(FileNotFoundError):
        loopnest.load(tmp_path / "none.lnp", chip=INT8)


def test_damaged_files(tmp_path):
    rng = np.random.default_rng(6)
    path, broken = tmp_path / "net.lnp", tmp_path / "broken.lnp"
    loopnest.compile(*network(rng), chip=INT8).save(path)
    whole = path.read_bytes()
    for end in (0, 10, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"broken.lnp: truncated or damaged"):
            loopnest.load(broken, chip=INT8)
    (end,) = struct.unpack("<L", whole[-6:-2])  # where the zip's directory begins
    for at, bits in ((len(whole) - 4, 0x5A), (len(whole) - 3, 0x80), (end + 8, 1)):
        broken.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"broken.lnp: truncated or damaged"):
            loopnest.load(broken, chip=INT8)
    for _ in range(40):  # each byte that counts is covered by a sum
        at = int(rng.integers(len(whole)))
        broken.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        try:
            loaded = loopnest.load(broken, chip=INT8)
        except ValueError as error:
            assert "broken.lnp" in str(error)
        else:
            same(loaded.run(), loopnest.load(path, chip=INT8).run())


def test_headers_that_are_no_programs(tmp_path):
    path, other = tmp_path / "net.lnp", tmp_path / "other.lnp"
    loopnest.compile("y[i] = 2 * x[i]", {"x": np.ones(3)}, chip=INT8).save(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}

    def refused(change, message):
        header = json.loads(members["program.json"])
        change(header)
        with zipfile.ZipFile(other, "w") as file:
            for name, data in (members | {"program.json": json.dumps(header)}).items():
                file.writestr(name, data)
        with pytest.raises(ValueError, match=message):
            loopnest.load(other, chip=INT8)

    refused(lambda h: h.update(version=99), "version 99 of saved programs: expected 8")
    refused(lambda h: h.update(format="x"), "'x': expected 'loopnest program'")
    refused(lambda h: h.pop("stages"), "truncated or damaged.*stages")
    step = {"kind": "host", "what": "", "operands": [0], "result": 0}
    for apply in (
        {"$function": "os.system"},
        {"$function": "system"},
        {"$data": ["Popen", {}]},
        {"$method": ["x", "format"]},
        {"$import": "os"},
    ):
        refused(lambda h, a=apply: h["stages"].append(step | {"apply": a}), "expected")


def test_steps_that_cannot_be_saved(tmp_path):
    program = loopnest.compile(
        ["T[i,j] = A[i,k] * A[k,j]", "y[i] = T[i,i]"], {"A": sp.eye_array(9).tocsr()}, chip=INT8
    )
    stages = [
        replace(s, apply=lambda o: o) if hasattr(s, "apply") else s
        for s in program._plans.contents.stages
    ]
    program._plans.contents = replace(program._plans.contents, stages=stages)
    with pytest.raises(ValueError, match=r"the host's step 'find the entries of T.i,i.': .*lambda"):
        program.save(tmp_path / "net.lnp")
