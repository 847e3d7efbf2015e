"""Files that ONNX Runtime quantises, on an int8 chip: their own scales and zero points, exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopnest
from loopnest import Chip
from loopnest.frontends.onnx import from_onnx
from loopnest.graph.graph import Graph
from loopnest.graph.quantize import with_steps
from loopnest.graph.rewrite import simplified
from loopnest.graph.steps import find_steps

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
runtime = pytest.importorskip("onnxruntime")
quantization = pytest.importorskip("onnxruntime.quantization")

helper, node = onnx.helper, onnx.helper.make_node
UINT8, INT8 = quantization.QuantType.QUInt8, quantization.QuantType.QInt8

CHIPS = {dtype: Chip("single", dtype=dtype, backend="model") for dtype in ("int8", "bf16")}


class Samples(quantization.CalibrationDataReader):
    def __init__(self, samples: list[dict[str, np.ndarray]]) -> None:
        self.samples = iter(samples)

    def get_next(self) -> Any:
        return next(self.samples, None)


def model(nodes: list[Any], shape: tuple[int, ...], constants: dict[str, np.ndarray]) -> Any:
    """Return a model of x (shape) with the output y."""
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (0.3 * rng.standard_normal(shape)).astype(np.float32)


def perceptron(rng: np.random.Generator) -> Any:
    nodes = [
        node("MatMul", ["x", "v"], ["a"]),
        node("Add", ["a", "b"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w", "c"], ["y"], transB=1),
    ]
    constants = {"v": (32, 24), "b": (24,), "w": (10, 24), "c": (10,)}
    return model(nodes, (4, 32), {name: drawn(rng, *shape) for name, shape in constants.items()})


def images(rng: np.random.Generator) -> Any:
    """A residual block, a squeeze and excitation, and a depthwise convolution."""
    around = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["a"], **around),
        node("Relu", ["a"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w2", "b2"], ["c"], **around),
        node("Add", ["c", "p"], ["s"]),
        node("GlobalAveragePool", ["s"], ["g"]),
        node("Conv", ["g", "w3", "b2"], ["e"]),
        node("HardSigmoid", ["e"], ["f"], alpha=1 / 6),
        node("Mul", ["s", "f"], ["m"]),
        node("Conv", ["m", "w4"], ["d"], group=8, strides=[2, 2], **around),
        node("GlobalAveragePool", ["d"], ["z"]),
        node("Flatten", ["z"], ["t"]),
        node("Gemm", ["t", "w5"], ["y"], transB=1),
    ]
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (8, 8, 1, 1)}
    shapes |= {"w4": (8, 1, 3, 3), "w5": (5, 8)}
    return model(nodes, (2, 3, 6, 6), {name: drawn(rng, *shape) for name, shape in shapes.items()})


def attention(rng: np.random.Generator) -> Any:
    """Two heads, whose products have two computed factors."""
    nodes = [node("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"]
    for name, axes in (("q", [1, 0, 2]), ("k", [1, 2, 0]), ("v", [1, 0, 2])):
        nodes.append(node("Reshape", [name, "heads"], [f"{name}1"]))
        nodes.append(node("Transpose", [f"{name}1"], [f"{name}2"], perm=axes))
    nodes += [
        node("MatMul", ["q2", "k2"], ["s"]),
        node("Softmax", ["s"], ["p"]),
        node("MatMul", ["p", "v2"], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[1, 0, 2]),
        node("Reshape", ["o1", "back"], ["o2"]),
        node("Add", ["o2", "x"], ["y"]),
    ]
    shapes = {"heads": np.array([5, 2, 8]), "back": np.array([5, 16])}
    return model(nodes, (5, 16), {f"w{n}": drawn(rng, 16, 16) for n in "qkv"} | shapes)


def branches(rng: np.random.Generator) -> Any:
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Sigmoid", ["a"], ["b"]),
        node("LeakyRelu", ["a"], ["c"]),
        node("Mul", ["b", "c"], ["m"]),
        node("Concat", ["b", "m", "c"], ["d"], axis=1),
        node("AveragePool", ["d"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Softmax", ["p"], ["y"], axis=1),
    ]
    return model(nodes, (1, 4, 4, 4), {"w": 2 * drawn(rng, 4, 4, 3, 3)})


def enlarged(rng: np.random.Generator) -> Any:
    """A transposed convolution, as one with zeros between the elements and weights mirrored."""
    nodes = [
        node("ConvTranspose", ["x", "w"], ["a"], strides=[2, 2]),
        node("Relu", ["a"], ["y"]),
    ]
    return model(nodes, (1, 3, 4, 4), {"w": drawn(rng, 3, 4, 3, 3)})


def repeated(rng: np.random.Generator) -> Any:
    """Pixels that are repeated, by a factor that is not whole too, and left out."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["r"]),  # integers from 0 to 255
        node("Resize", ["r", "", "larger"], ["b"], mode="nearest"),
        node("Resize", ["b", "", "odd"], ["o"], mode="nearest"),
        node("Conv", ["o", "v"], ["c"]),
        node("Resize", ["c", "", "smaller"], ["y"], mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    ]  # fmt: skip
    constants = {"w": drawn(rng, 4, 3, 1, 1), "v": drawn(rng, 2, 4, 3, 3)}
    constants["larger"] = np.array([1, 1, 2, 3], np.float32)
    constants["odd"] = np.array([1, 1, 1.5, 0.7], np.float32)
    constants["smaller"] = np.array([1, 1, 0.5, 0.5], np.float32)
    return model(nodes, (1, 3, 4, 4), constants)


FILES = {
    "perceptron, uint8": (perceptron, UINT8, INT8, {}),
    "perceptron, int8 per channel": (perceptron, INT8, INT8, {"per_channel": True}),
    "perceptron, uint8 weights": (
        perceptron, UINT8, UINT8, {"extra_options": {"WeightSymmetric": False}},
    ),
    "images, uint8": (images, UINT8, INT8, {}),
    "images, int8 per channel": (images, INT8, INT8, {"per_channel": True}),
    "images, symmetric": (images, INT8, INT8, {"extra_options": {"ActivationSymmetric": True}}),
    "perceptron, QGemm": (
        perceptron, UINT8, INT8, {"quant_format": quantization.QuantFormat.QOperator},
    ),
    "images, QLinearConv": (
        images, UINT8, INT8, {"quant_format": quantization.QuantFormat.QOperator},
    ),
    "branches, operators of ONNX Runtime": (
        branches, UINT8, INT8, {"quant_format": quantization.QuantFormat.QOperator},
    ),
    "attention, uint8": (attention, UINT8, INT8, {}),
    "enlarged, uint8": (enlarged, UINT8, INT8, {}),
    "enlarged, int8 per channel": (enlarged, INT8, INT8, {"per_channel": True}),
    "repeated, uint8": (repeated, UINT8, INT8, {}),
    "repeated, int8": (repeated, INT8, INT8, {}),
}  # fmt: skip


def quantized(tmp_path: Path, name: str) -> tuple[Path, np.ndarray]:
    """Return a file that ONNX Runtime quantises, and an input."""
    make, activations, weights, options = FILES[name]
    rng = np.random.default_rng(5)
    file = make(rng)
    shape = [d.dim_value for d in file.graph.input[0].type.tensor_type.shape.dim]
    samples = [rng.standard_normal(shape).astype(np.float32) for _ in range(3)]
    onnx.save(file, tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx",
        path := tmp_path / "quantized.onnx",
        Samples([{"x": x} for x in samples]),
        activation_type=activations,
        weight_type=weights,
        **{"quant_format": quantization.QuantFormat.QDQ, **options},
    )
    return path, samples[0]


def expected(path: Path, x: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime computes, operator by operator."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    # its fused kernels saturate sums of pairs on processors without VNNI
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(path, options).run(None, {"x": x})[0]


@pytest.mark.parametrize("name", FILES)
def test_integers_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    path, x = quantized(tmp_path, name)
    graph = with_steps(simplified(from_onnx(path, [x])), integers=True)
    steps = find_steps(graph)
    (output,) = graph.outputs
    # every quantised tensor, from those before it as the chip computes them
    program = loopnest.compile(
        Graph(graph.inputs, graph.constants, graph.nodes, tuple(steps)), chip=CHIPS["int8"]
    )
    found = program.run(x=x)
    for at, (tensor, own) in enumerate(steps.items()):
        before = {"x": x} | {one: found[one] for one in list(steps)[:at]}
        one = graph.part(before, [tensor]).evaluate()[tensor]
        integers = found[tensor] / own.scale
        assert np.array_equal(np.rint(integers), np.round(integers, 3))
        assert np.max(np.abs(found[tensor] - one)) <= 1.001 * own.scale, tensor
    # and the whole model, on a chip that multiplies all of it
    model = loopnest.compile(path, [x], chip=CHIPS["int8"])
    host = [placed.node.operator for placed in model.placement if placed.where == "host"]
    assert set(host) <= {"fake_quantize", "softmax", "sigmoid", "leaky_relu", "pad"}
    wanted = expected(path, x)
    away = np.abs(model(x) - wanted) / steps[output].scale
    # weights that are mirrored are the same integers, and pixels that are repeated
    exact = name.startswith(("enlarged", "repeated"))
    assert np.max(away) <= (0.001 if exact else 1.001)
    # a bf16 chip computes the numbers that the integers stand for
    real = loopnest.compile(path, [x], chip=CHIPS["bf16"])
    assert not any("quantize" in placed.node.operator for placed in real.placement)
    assert np.max(np.abs(real(x) - wanted)) <= 0.1 * np.max(np.abs(wanted))


@pytest.mark.parametrize("make", [perceptron, images])
def test_scales_may_be_computed(tmp_path: Path, make: Any) -> None:
    rng = np.random.default_rng(6)
    file = make(rng)
    shape = [d.dim_value for d in file.graph.input[0].type.tensor_type.shape.dim]
    x, other = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    onnx.save(file, tmp_path / "float.onnx")
    path = tmp_path / "quantized.onnx"
    quantization.quantize_dynamic(tmp_path / "float.onnx", path, weight_type=INT8)
    for dtype, chip in CHIPS.items():
        program = loopnest.compile(path, [x], chip=chip, calibrate=[(other,)])
        chips = [p.node.operator for p in program.placement if p.where == "chip"]
        assert sum(kind in ("linear", "conv") for kind in chips) == sum(
            kind.op_type in ("Gemm", "MatMul", "Conv") for kind in file.graph.node
        )
        for one in (x, other):
            # not by ONNX Runtime, which may saturate here too
            wanted = reference.ReferenceEvaluator(str(path)).run(None, {"x": one})[0]
            error = np.max(np.abs(program(one) - wanted))
            assert error <= 0.04 * np.max(np.abs(wanted)), dtype
