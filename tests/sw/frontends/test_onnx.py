"""Reading of ONNX files: constants, shapes, names, quantised tensors, branches, damage."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, compile
from loopnest.frontends.onnx import from_onnx
from loopnest.graph.graph import Graph

onnx = pytest.importorskip("onnx")

reference = pytest.importorskip("onnx.reference")

helper, numpy_helper = onnx.helper, onnx.numpy_helper


RNG = np.random.default_rng(1)


def parsed(text: str, opset: int = 17) -> Any:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}')


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def operators(graph: Graph) -> list[str]:
    return [node.operator for node in graph.nodes]


def check(model: Any, inputs: dict[str, np.ndarray], tolerance: float = 1e-5) -> Graph:
    """Compare a model's outputs with those of the reference of ``onnx``; return its graph."""
    graph = from_onnx(model, inputs)
    expected = reference.ReferenceEvaluator(model).run(None, inputs)
    found = graph.evaluate()
    assert list(found) == [output.name for output in model.graph.output]
    for one, other in zip(found.values(), expected, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(one, other, tolerance, tolerance)
    return graph


# What is folded


def test_a_constant_is_named_by_what_it_is_made_of() -> None:
    model = parsed("(float[2,3] x) => (float[2,2] y) { y = MatMul (x, w) }")
    weights = np.full((3, 2), np.nan, np.float32)
    model.graph.initializer.add().CopyFrom(numpy_helper.from_array(weights, "w"))
    chip = Chip("single", dtype="int8", backend="model")
    with pytest.raises(ValueError, match=r"w\.1: expected finite weights"):
        compile(from_onnx(model, [floats(2, 3)]), chip=chip)


def test_constants_are_found_anywhere() -> None:
    model = parsed(
        """(float[N,3] x) => (float[N,2] y)
        <int8[3,2] q = {1, -2, 3, 0, 5, 6}, float scale = {0.5}, float[2] unused = {1, 2}>
        {
            f = Cast <to = 1> (q)
            w = Mul (f, scale)
            b = Constant <value = float[2] {0.25, -0.25}> ()
            p = MatMul (x, w)
            y = Add (p, b)
        }"""
    )
    graph = check(model, {"x": floats(4, 3)})
    assert operators(graph) == ["linear", "add"]
    assert set(graph.constants) >= {"b"} and "unused" not in graph.constants
    assert len(graph.constants) == 2


def test_what_depends_on_shapes_only_is_folded() -> None:
    model = parsed(
        """(float[N,S,6] x) => (float[N,2,S,3] y)
        <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[2] rest = {2, 3}>
        {
            shape = Shape (x)
            n = Gather (shape, zero)
            s = Gather (shape, one)
            n1 = Unsqueeze (n, first)
            s1 = Unsqueeze (s, first)
            target = Concat <axis = 0> (n1, s1, rest)
            split = Reshape (x, target)
            y = Transpose <perm = [0, 2, 1, 3]> (split)
        }"""
    )
    graph = check(model, {"x": floats(2, 5, 6)})
    assert operators(graph) == ["reshape", "transpose"]
    assert graph.nodes[0].attributes["shape"] == (2, 5, 2, 3)
    assert not graph.constants


def test_an_output_may_be_an_input_or_a_constant() -> None:
    model = parsed(
        """(float[2] x) => (float[2] same, float[2] again, int64[1] size)
        { same = Identity (x) again = Identity (same) size = Shape (x) }"""
    )
    graph = check(model, {"x": floats(2)})
    assert operators(graph) == ["reshape", "reshape"]


def test_outputs_may_lack_their_shapes() -> None:
    model = parsed("(float[2,3] x) => (float[2,3] y) { y = Relu (x) }")
    whole = model.SerializeToString()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    given = model.SerializeToString()
    assert operators(from_onnx(model)) == ["relu"]
    assert model.SerializeToString() == given != whole
    model.graph.output[0].ClearField("type")
    assert operators(from_onnx(model)) == ["relu"]


def test_names_are_those_of_the_file() -> None:
    model = parsed(
        """(float[2,3] x) => (float[2,3] y)
        { a = HardSwish (x) b = Dropout (a) c, d = Split <axis = 1> (b, s) e = Relu (d)
          y = Concat <axis = 1> (c, e) }""".replace("(b, s)", "(b, s)").replace(
            "=> (float[2,3] y)", "=> (float[2,3] y) <int64[2] s = {1, 2}>"
        )
    )
    model.graph.node[0].name = "first"
    graph = check(model, {"x": floats(2, 3)})
    assert [node.result for node in graph.nodes] == ["a", "c", "d", "e", "y"]
    assert [node.origin for node in graph.nodes] == [
        "first (HardSwish)",
        "node 2 (Split)",
        "node 2 (Split)",
        "node 3 (Relu)",
        "node 4 (Concat)",
    ]


def test_batch_normalisation_is_a_factor_and_an_offset() -> None:
    model = parsed(
        """(float[2,3,4,4] x) => (float[2,3,4,4] y)
        <float[3] s = {1, 2, -3}, float[3] b = {0, 1, 2}, float[3] m = {1, 0, -1},
         float[3] v = {1, 4, 0.25}>
        { y = BatchNormalization <epsilon = 0.001> (x, s, b, m, v) }"""
    )
    graph = check(model, {"x": floats(2, 3, 4, 4)})
    assert operators(graph) == ["mul", "add"]
    assert {array.shape for array in graph.constants.values()} == {(3, 1, 1)}


# Sparse and quantised tensors


def sparse(name: str, array: np.ndarray, *, flat: bool) -> Any:
    places = np.flatnonzero(array) if flat else np.argwhere(array)
    values = numpy_helper.from_array(array[array != 0], name)
    return helper.make_sparse_tensor(
        values, numpy_helper.from_array(places.astype(np.int64), "places"), array.shape
    )


@pytest.mark.parametrize("flat", [False, True])
def test_sparse_initializers_stay_sparse(flat: bool) -> None:
    w = floats(6, 4) * (RNG.random((6, 4)) < 0.3)
    model = parsed("(float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }")
    model.graph.sparse_initializer.append(sparse("w", w, flat=flat))
    x = floats(3, 6)
    graph = from_onnx(model, {"x": x})
    assert operators(graph) == ["linear"]
    (found,) = graph.constants.values()
    assert sp.issparse(found) and found.nnz == np.count_nonzero(w)
    np.testing.assert_allclose(graph.evaluate()["y"], x @ w, 1e-5, 1e-6)


def test_sparse_weights_of_a_convolution_stay_sparse() -> None:
    w = floats(4, 3, 3, 3) * (RNG.random((4, 3, 3, 3)) < 0.2)
    model = parsed("(float[1,3,5,5] x) => (float[1,4,3,3] y) { y = Conv (x, w) }")
    constant = helper.make_node("Constant", [], ["w"], sparse_value=sparse("w", w, flat=False))
    model.graph.node.insert(0, constant)
    graph = from_onnx(model, [floats(1, 3, 5, 5)])
    assert sp.issparse(graph.constants["w"])
    dense = parsed("(float[1,3,5,5] x, float[4,3,3,3] w) => (float[1,4,3,3] y) { y = Conv (x, w) }")
    inputs = {"x": graph.inputs["x"], "w": w}
    (expected,) = reference.ReferenceEvaluator(dense).run(None, inputs)
    np.testing.assert_allclose(graph.evaluate()["y"], expected, 1e-5, 1e-5)


def test_a_damaged_sparse_tensor_is_refused() -> None:
    model = parsed("(float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }")
    values = numpy_helper.from_array(np.ones(2, np.float32), "w")
    places = numpy_helper.from_array(np.array([3, 99]), "places")
    constant = helper.make_node(
        "Constant", [], ["w"], sparse_value=helper.make_sparse_tensor(values, places, [6, 4])
    )
    model.graph.node.insert(0, constant)
    with pytest.raises(ValueError, match=r"99|range"):
        from_onnx(model, [floats(2, 6)])


QDQ = """(float[2,3] x) => (float[2,4] y)
    <float sx = {0.05}, uint8 zx = {120}, int8[3,4] q = {1, 0, -3, 4, 5, 0, 7, 8, -9, 10, 11, 12},
     float[4] sw = {0.1, 0.2, 0.3, 0.4}, int8[4] zw = {0, 0, 1, 0}>
    {
        qx = QuantizeLinear (x, sx, zx)
        dx = DequantizeLinear (qx, sx, zx)
        w = DequantizeLinear <axis = 1> (q, sw, zw)
        y = MatMul (dx, w)
    }"""


def test_quantised_weights_are_folded_and_activations_round_as_the_file_says() -> None:
    graph = check(parsed(QDQ, opset=19), {"x": 5 * floats(2, 3)})
    assert operators(graph) == ["quantize", "dequantize", "linear"]
    quantize = graph.nodes[0]
    assert graph.constants[quantize.inputs[2]].dtype == np.uint8
    assert any(a.shape == (4, 3) and a.dtype == np.float32 for a in graph.constants.values())


def test_scales_have_to_fit() -> None:
    model = parsed(QDQ.replace("axis = 1", "axis = 0"))
    with pytest.raises(ValueError, match=r"scales of shape \(4,\) for \(3, 4\)"):
        from_onnx(model, [floats(2, 3)])


def test_scales_have_to_be_positive() -> None:
    model = parsed(QDQ.replace("float sx = {0.05}", "float sx = {0}"))
    with pytest.raises(ValueError, match=r"QuantizeLinear.*scale 'sx' of 0.0: expected positive"):
        from_onnx(model, [floats(2, 3)])


# Branches and functions


def branching(condition: str) -> Any:
    return parsed(
        """(float[N,3] x, bool c) => (float[N,3] y) <int64 three = {3}, int64[1] axis = {0}>
        {
            shape = Shape <start = 1> (x)
            size = Squeeze (shape, axis)
            known = Equal (size, three)
            y = If (CONDITION) <
                then_branch = yes () => (float[N,3] t) <float two = {2}> { t = Mul (x, two) },
                else_branch = no () => (float[N,3] e) { e = Custom (x) }
            >
        }""".replace("CONDITION", condition)
    )


def test_the_branch_of_a_known_condition_is_taken() -> None:
    model = branching("known")
    model.graph.node[-1].attribute[1].g.node[0].op_type = "Neg"
    x = floats(2, 3)
    graph = from_onnx(model, {"x": x, "c": np.array(False)})
    assert operators(graph) == ["mul"]
    assert np.array_equal(graph.evaluate()["y"], 2 * x)


def test_a_computed_condition_is_refused() -> None:
    model = branching("c")
    model.graph.node[-1].attribute[1].g.node[0].op_type = "Neg"
    with pytest.raises(ValueError, match=r"\(If\): the condition 'c' depends on the model's input"):
        from_onnx(model, {"x": floats(2, 3), "c": np.array(False)})


def test_functions_of_the_file_are_inlined() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]>
        g (float[2,3] x) => (float[2,3] y) { y = own.twice (x) }
        <domain: "own", opset_import: ["": 17]>
        twice (a) => (b) { b = Add (a, a) }"""
    )
    x = floats(2, 3)
    graph = from_onnx(model, [x])
    assert operators(graph) == ["add"] and np.array_equal(graph.evaluate()["y"], 2 * x)


def test_operators_that_are_functions_are_spelled_out_with_their_default_attributes() -> None:
    model = parsed("(float[2,3] x) => (float[2,3] y) { y = ThresholdedRelu (x) }", opset=18)
    x = 2 * floats(2, 3)
    assert np.array_equal(from_onnx(model, [x]).evaluate()["y"], np.where(x > 1, x, 0))


# Inputs

LINEAR = "(float[batch,3] x, float[batch,k] z) => (float[batch,3] y) { y = Add (x, z) }"


@pytest.mark.parametrize(
    "inputs, message",
    [
        (None, r"input 'x': dimension 0 \(batch\) is not bound: expected an example"),
        ((floats(2, 3),), r"1 inputs: expected 2 \(x, z\)"),
        ({"x": floats(2, 3)}, r"input 'z' is missing: expected x, z"),
        ({"x": floats(2, 3), "zz": floats(2, 3)}, r"no input 'zz': expected x, z"),
        ((floats(2, 4), floats(2, 1)), r"'x': shape \(2, 4\): expected \(batch, 3\)"),
        ((floats(2, 3, 1), floats(2, 1)), r"'x': shape \(2, 3, 1\): expected \(batch, 3\)"),
        ((floats(2, 3).astype(float), floats(2, 1)), r"'x': float64: expected float32"),
        ((floats(2, 3), floats(4, 1)), r"'z': shape .* with batch = 2, as in 'x'"),
    ],
)
def test_inputs_are_checked(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_onnx(parsed(LINEAR), inputs)


def test_inputs_may_be_lists_and_are_0_where_all_dimensions_are_numbers() -> None:
    model = parsed("(float[2] x, int64 n) => (float[2] y) { m = Cast <to = 1> (n) y = Add (x, m) }")
    assert from_onnx(model, ([1, 2], 3)).evaluate()["y"].tolist() == [4, 5]
    assert from_onnx(model).evaluate()["y"].tolist() == [0, 0]


def test_an_initializer_is_an_input_where_it_is_given() -> None:
    model = parsed("(float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> "
                   "{ y = Add (x, w) }")  # fmt: skip
    x = floats(2)
    assert list(from_onnx(model, [x]).inputs) == ["x"]
    given = from_onnx(model, {"x": x, "w": x})
    assert list(given.inputs) == ["x", "w"]
    assert np.array_equal(given.evaluate()["y"], 2 * x)


# Files

IDENTITY = "(float[2,3] x) => (float[2,3] y) { a = Relu (x) y = Neg (a) }"


def test_files_and_bytes_are_read(tmp_path: Path) -> None:
    model = parsed(IDENTITY)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    x = floats(2, 3)
    for source in (path, str(path), path.read_bytes(), model):
        assert np.array_equal(from_onnx(source, [x]).evaluate()["y"], -np.maximum(x, 0))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Cut off and with flipped bytes: a file is refused by its name, or read."""
    w = floats(30, 30)
    model = parsed("(float[2,30] x) => (float[2,30] y) { a = MatMul (x, w) y = Relu (a) }")
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    whole = model.SerializeToString()
    path = tmp_path / "net.onnx"
    rng = np.random.default_rng(2)
    damaged = [whole[:n] for n in (0, 1, 10, len(whole) // 2, len(whole) - 1)]
    for _ in range(100):
        changed = bytearray(whole)
        changed[rng.integers(0, 200)] ^= 1 << rng.integers(0, 8)
        damaged.append(bytes(changed))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            from_onnx(path, [floats(2, 30)])
        except ValueError as error:
            assert "net.onnx" in str(error), error
            refused += 1
    assert refused >= 20
    for content in damaged[:5]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"net\.onnx"):
            from_onnx(path, [floats(2, 30)])


def test_external_data_has_to_be_there(tmp_path: Path) -> None:
    model = parsed("(float[2,30] x) => (float[2,30] y) { y = MatMul (x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(floats(30, 30), "w"))
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    x = floats(2, 30)
    assert len(from_onnx(path, [x]).constants) == 1
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ValueError, match=r"net\.onnx: its external data cannot be read"):
        from_onnx(path, [x])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: setattr(m.graph.node[1], "op_type", "Loop"),
         r"net\.onnx, node 1 'last' \(Loop\): the operator Loop is not supported"),
        (lambda m: setattr(m.graph.node[1], "domain", "com.example"),
         r"node 1 'last' \(com\.example\.Neg\): the operator Neg is not supported"),
        (lambda m: setattr(m.opset_import[0], "version", 6), r"opset 6: expected 7 to 23"),
        (lambda m: setattr(m.opset_import[0], "version", 99), r"opset 99: expected 7 to 23"),
        (lambda m: m.graph.node[1].input.__setitem__(0, "b"), r"net\.onnx: not a valid model"),
        (lambda m: m.graph.ClearField("node"), r"net\.onnx: "),
        (lambda m: m.ClearField("graph"), r"net\.onnx: no operators"),
    ],
)  # fmt: skip
def test_other_models_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    model = parsed(IDENTITY)
    model.graph.node[1].name = "last"
    change(model)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=message):
        from_onnx(tmp_path / "net.onnx", [floats(2, 3)])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none.onnx"))):
        from_onnx(tmp_path / "none.onnx")


def test_a_failing_operator_is_named_with_its_place() -> None:
    model = parsed(
        "(float[N,3] x, int64[2] s) => (float[N,3] y) { a = Relu (x) y = Reshape (a, s) }"
    )
    message = r"node 1 \(Reshape\): shape \('s'\) depends on the model's inputs: expected a const"
    with pytest.raises(ValueError, match=message):
        from_onnx(model, (floats(2, 3), np.array([2, 3])))
    model = parsed("(float[N,3] x, float[M,2] z) => (float[N,3] y) { y = Add (x, z) }")
    with pytest.raises(ValueError, match=r"node 0 \(Add\): .*shapes \(2,3\) \(2,2\)"):
        from_onnx(model, (floats(2, 3), floats(2, 2)))


def test_types_that_are_no_numbers_are_refused() -> None:
    model = parsed(IDENTITY)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    with pytest.raises(ValueError, match="STRING"):
        from_onnx(model, [np.array([["a"] * 3] * 2)])
