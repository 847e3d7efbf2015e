"""The command line's commands for programs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.commands.cli import BAD_INPUT, OK, main
from loopnest.formats.files import read_tensor, write_tensor


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Work in a folder with the operands of a small network."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    operands = {
        "V": sp.csr_array(np.where(rng.random((6, 8)) < 0.4, rng.integers(-3, 4, (6, 8)), 0)),
        "W": rng.integers(-3, 4, (4, 6)).astype(float),
        "x": rng.integers(-3, 4, 8).astype(float),
    }
    write_tensor("V.mtx", operands["V"])
    np.save("W.npy", operands["W"])
    np.save("x.npy", operands["x"])
    return operands


WORDS = ["h[i] = V[i,j] * x[j]", "y[i] = W[i,j] * h[j]", "V=V.mtx", "W=W.npy", "x=x.npy"]


def compiled(*words):
    return main(["compile", *WORDS, "--dtype", "int8", "-o", "net.lnp", *words])


def test_compile_run_and_info(files, capsys):
    V, W, x = files["V"], files["W"], files["x"]
    assert compiled("--export", "net.bin") == OK
    told = capsys.readouterr()
    assert "2 in 1 start" in told.out and "net.bin" in told.err
    assert main(["info", "net.lnp", "V.mtx"]) == OK
    out = capsys.readouterr().out
    assert "input V" in out and "6 x 8, up to" in out and "result y" in out
    assert "cycles" in out and "V.mtx" in out
    other = x[::-1].copy()
    dense = V.toarray()
    np.savez("inputs.npz", x=other, V=dense)
    run = ["run", "net.lnp", "inputs.npz", "--backend", "model"]
    assert main([*run, "-o", "outputs.npz", "--report", "r.json"]) == OK
    with np.load("outputs.npz") as found:
        assert np.array_equal(found["y"], W @ (V @ other))
    assert json.loads(Path("r.json").read_text())["multiplies"] > 0
    assert main([*run, "-o", "y.npy"]) == OK and np.array_equal(
        read_tensor("y.npy"), W @ (V @ other)
    )
    capsys.readouterr()
    assert main(["run", "net.lnp", "x=x.npy", "--backend", "model"]) == OK
    out, err = capsys.readouterr()
    assert out == f"y:\n{(W @ (V @ x)).astype(int)}\n" and "multiplies" in err


def test_a_model(files, capsys):
    """Of ONNX, with a dynamic dimension that the examples bind, scaled for an int8 chip by them."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(files["W"].astype(np.float32), "W")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])]
    nodes = [
        helper.make_node("Gemm", ["x", "W"], ["h"], transB=1),
        helper.make_node("Softmax", ["h"], ["y"], axis=1),
    ]
    graph = helper.make_graph(nodes, "net", inputs, outputs, [weights])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset]), "net.onnx")
    x = np.random.default_rng(2).standard_normal((3, 6)).astype(np.float32)
    np.savez("samples.npz", x=x)
    for dtype, tolerance in (("bf16", 0.02), ("int8", 0.1)):
        words = ["compile", "net.onnx", "--calibrate", "samples.npz", "--dtype", dtype]
        assert main([*words, "-o", "net.lnp"]) == OK
        assert "input x" in capsys.readouterr().out
        run = ["run", "net.lnp", "samples.npz", "--backend", "model", "-o", "outputs.npz"]
        assert main(run) == OK
        scores = np.exp(x @ files["W"].T)
        with np.load("outputs.npz") as found:
            expected = scores / scores.sum(axis=1, keepdims=True)
            assert np.allclose(found["y"], expected, atol=tolerance)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compile", *WORDS, "-o", "net.npz"], "net.npz: expected a name that ends in .lnp"),
        (["compile", *WORDS[2:], "-o", "net.lnp"], "expected a statement, with spaces around"),
        (["compile", "a.onnx", "y[i] = x[i]", "-o", "net.lnp"], "expected one model"),
        (["compile", "y[i] = z[i]", "-o", "net.lnp"], "operand 'z' of .* is missing"),
        (["run", "none.lnp"], "none.lnp: no such file"),
        (["run", "V.mtx"], "V.mtx: truncated or damaged, or no program"),
        (["run", "net.lnp", "z=1", "--backend", "model"], "input 'z': expected one of V, W, x"),
        (["run", "net.lnp", "x.npy", "--backend", "model"], "x.npy: not a .npz file"),
        (["run", "net.lnp", "x=W.npy", "--backend", "model"], r"x has shape .4, 6.: expected .8,."),
        (["run", "net.lnp", "--plot", "p.png", "--backend", "model"], "counts no cycles"),
        (["info", "broken.lnp"], "broken.lnp: truncated or damaged"),
    ],
)
def test_errors(files, capsys, words, message):
    assert compiled() == OK
    Path("broken.lnp").write_bytes(Path("net.lnp").read_bytes()[:-30])
    capsys.readouterr()
    assert main(words) == BAD_INPUT
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))
