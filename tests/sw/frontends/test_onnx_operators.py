"""The operators of ONNX, by the tests and the reference that the package ``onnx`` brings."""

import importlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from loopnest import Chip, compile
from loopnest.frontends.onnx import from_onnx
from loopnest.frontends.onnx.node import CONVERTERS

onnx = pytest.importorskip("onnx")

reference = pytest.importorskip("onnx.reference")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

CASES = "onnx.backend.test.case.node"

OPERATORS = """
    and_ argmax attention batch_normalization ceil celu clip concat constant constantofshape
    conv convinteger convtranspose cumsum depthtospace dequantizelinear dropout
    dynamicquantizelinear einsum elu equal erf exp expand eyelike flatten floor gather
    gatherelements gathernd gelu gemm globalaveragepool globalmaxpool greater greater_or_equal
    groupnormalization hardsigmoid hardswish identity instance_normalization isnan
    layernormalization leakyrelu less less_or_equal log logsoftmax matmul matmulinteger max mean
    meanvariancenormalization min mish mod mul neg nonzero onehot or_ pad pow prelu qlinearconv
    qlinearmatmul quantizelinear rangeop reciprocal reducel1 reducel2 reduce_log_sum
    reduce_log_sum_exp reducemax reducemean reducemin reduceprod reducesum reducesumsquare relu
    reshape resize rmsnormalization rotaryembedding round scatterelements selu shape sigmoid
    sign sin size slice softmax softplus softsign spacetodepth split sqrt squeeze sub sum tanh
    thresholdedrelu tile topk transpose trilu unsqueeze where xor
""".split()  # noqa: SIM905
"""Modules with tests; those of pooling take seconds to make, and are not among them."""

REFUSED = {
    r"(?i)bfloat16|bf16|float8|float4|int4|int2|complex|string|e4m3|e5m2|e8m0": "types",
    r"select_last_index": "select_last_index",
    r"training_mode": "batch normalisation in training",
    r"training|mask": "the mask of a dropout",
    r"layer_normalization(?!.*_expanded)": "the mean and the deviation as outputs",
    r"scatter_elements_with_(reduction|dup)": "reductions of a scatter",
    r"tf_crop_and_resize": "cropping",
    r"empty_set": "the maximum of nothing",
    r"spacetodepth_.*_mode": "an attribute of opset 24",
    r"sequence|optional|identity_opt": "sequences",
    r"range_.*_expanded": "loops",
    r"celu_float16|quantizelinear_blocked_symmetric": "operators of later versions",
    # PyTorch and ONNX Runtime have the last place at the end of the axis, as here
    r"downsample_scales_(linear|cubic)_align_corners$": "a size that is no whole number",
    r"attention.*(padded_kv|nonpad|4d_causal_with_past|_window)": "operators of later versions",
}
"""Names of tests of what is not supported, or not here."""


def make_cases(module: str) -> list[Any]:
    node = importlib.import_module(CASES)
    before = len(node._NodeTestCases)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"{CASES}.{module}")
    return node._NodeTestCases[before:]


def evaluate(model: Any, inputs: Mapping[str, Any]) -> list[np.ndarray]:
    """Compute a model; inputs that have to be constants are made so, all but the first or all."""
    names = list(inputs)
    for variable in (names, names[:1], []):
        made = onnx.ModelProto()
        made.CopyFrom(model)
        for name in names[len(variable) :]:
            made.graph.initializer.append(onnx.numpy_helper.from_array(inputs[name], name))
        try:
            graph = from_onnx(made, {name: inputs[name] for name in variable})
            return list(graph.evaluate().values())
        except ValueError as error:
            if "expected a constant" not in str(error) or not variable:
                raise
    raise AssertionError


@pytest.mark.parametrize("module", OPERATORS)
def test_operators_are_as_onnx_tests_them(module: str) -> None:
    done = 0
    for case in make_cases(module):
        if any(re.search(pattern, case.name) for pattern in REFUSED):
            continue
        model = case.model
        for entry in model.opset_import:
            entry.version = min(entry.version, 23)
        if all(entry.version < 7 for entry in model.opset_import):
            continue
        names = [entry.name for entry in model.graph.input]
        for inputs, outputs in case.data_sets:
            given = {n: np.asarray(array) for n, array in zip(names, inputs, strict=True)}
            found = evaluate(model, given)
            for one, expected in zip(found, map(np.asarray, outputs), strict=True):
                assert one.shape == expected.shape and one.dtype == expected.dtype, case.name
                np.testing.assert_allclose(one, expected, 1e-3, 1e-5, err_msg=case.name)
            done += 1
    assert done, f"{module}: no cases"


def test_every_operator_is_tested() -> None:
    spelled = {name.replace("_", "") for name in OPERATORS}
    spelled |= {"argmin", "greaterorequal", "lessorequal", "range"}
    here = {node.op_type for model in map(case_here, HERE) for node in model.graph.node}
    here.add("Upsample")
    # those of ONNX Runtime: test_onnx_quantized.py
    own = {name for name in CONVERTERS if "." not in name}
    missing = {name for name in own if name.lower() not in spelled} - here
    assert not missing


def parsed(body: str, *, inputs: str, outputs: str, opset: int = 17) -> Any:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )


HERE = {
    # text, inputs, outputs, opset
    "add": ("y = Add(x, w)", "float[2,3] x, float[3] w", "float[2,3] y", 7),
    "div": ("y = Div(x, w)", "float[2,3] x, float[3] w", "float[2,3] y", 7),
    "div of integers": ("y = Div(x, w)", "int64[2,3] x, int64[3] w", "int64[2,3] y", 14),
    "cos": ("y = Cos(x)", "float[2,3] x", "float[2,3] y", 7),
    "absolute": ("y = Abs(x)", "float[2,3] x", "float[2,3] y", 13),
    "not": ("z = Less(x, w) y = Not(z)", "float[2,3] x, float[3] w", "bool[2,3] y", 13),
    "scatter": (
        "i = Constant <value = int64[1,2] {1, 0}> () u = Constant <value = float[1,2] {5, 6}> () "
        "y = Scatter <axis = 1> (x, i, u)",
        "float[2,3] x", "float[2,3] y", 10,
    ),
    "cast": ("y = Cast <to = 7> (x)", "float[2,3] x", "int64[2,3] y", 13),
    "cast like": ("y = CastLike(x, w)", "float[2,3] x, int64[3] w", "int64[2,3] y", 15),
    "softmax over axes": (
        "y = Softmax <axis = 1> (x)", "float[2,3,4] x", "float[2,3,4] y", 11,
    ),
    "clip by attributes": (
        "y = Clip <min = -0.5, max = 0.25> (x)", "float[4,5] x", "float[4,5] y", 7,
    ),
    "slice by attributes": (
        "y = Slice <axes = [1], starts = [-3], ends = [1000]> (x)",
        "float[4,5] x", "float[4,3] y", 7,
    ),
    "squeeze by attributes": (
        "z = Unsqueeze <axes = [0, 2]> (x) y = Squeeze <axes = [2]> (z)",
        "float[4,5] x", "float[1,4,5] y", 11,
    ),
    "pad by attributes": (
        'y = Pad <mode = "constant", pads = [0, 1, 2, 0], value = 1.5> (x)',
        "float[4,5] x", "float[6,6] y", 7,
    ),
    "pad less": (
        "p = Constant <value = int64[4] {0, -1, 2, -2}> () y = Pad(x, p)",
        "float[4,5] x", "float[6,2] y", 13,
    ),
    "maximum pool": (
        "y = MaxPool <kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 0, 1]> (x)",
        "float[2,3,9,8] x", "float[2,3,4,8] y", 12,
    ),
    "maximum pool, rounded up": (
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 3], ceil_mode = 1, "
        "dilations = [1, 2]> (x)",
        "float[2,3,8,9] x", "float[2,3,4,3] y", 12,
    ),
    "maximum pool in 1 dimension": (
        'y = MaxPool <kernel_shape = [3], strides = [2], auto_pad = "SAME_LOWER"> (x)',
        "float[2,3,8] x", "float[2,3,4] y", 12,
    ),
    "average pool": (
        "y = AveragePool <kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 0, 1]> (x)",
        "float[2,3,9,8] x", "float[2,3,4,8] y", 11,
    ),
    "average pool, padding counted": (
        "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)",
        "float[2,3,6,7] x", "float[2,3,6,7] y", 11,
    ),
    "average pool, rounded up": (
        "y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)",
        "float[2,3,6,8] x", "float[2,3,3,4] y", 11,
    ),
    "gather of a slice": (
        "i = Constant <value = int64[2] {-3, -2}> () y = Gather <axis = 1> (x, i)",
        "float[4,5] x", "float[4,2] y", 13,
    ),
    "gather of a number": (
        "i = Constant <value = int64 {2}> () y = Gather <axis = 1> (x, i)",
        "float[4,5,2] x", "float[4,2] y", 13,
    ),
}  # fmt: skip


def case_here(name: str) -> Any:
    body, inputs, outputs, opset = HERE[name]
    return parsed(body, inputs=inputs, outputs=outputs, opset=opset)


REFERENCE_DIFFERS = ("softmax over axes", "pad less", "maximum pool in 1 dimension", "scatter")
"""What the reference of the package ``onnx`` computes otherwise than the specification says."""


def examples(model: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for entry in model.graph.input:
        shape = [d.dim_value or 3 for d in entry.type.tensor_type.shape.dim]
        if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            found[entry.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            found[entry.name] = rng.integers(1, 9, shape)
    return found


@pytest.mark.parametrize("name", HERE)
def test_operators_are_as_the_reference_computes_them(name: str) -> None:
    model = case_here(name)
    given = examples(model)
    if name in REFERENCE_DIFFERS:
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(model.SerializeToString())
        (expected,) = session.run(None, given)
    else:
        (expected,) = reference.ReferenceEvaluator(model).run(None, given)
    (found,) = from_onnx(model, given).evaluate().values()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


def test_integers_are_interpolated_in_floating_point() -> None:
    model = parsed(
        's = Constant <value = float[3] {1, 2, 1.5}> () y = Resize <mode = "linear"> (x, , s)',
        inputs="int64[1,2,4] x",
        outputs="int64[1,4,6] y",
        opset=13,
    )
    given = examples(model)
    (found,) = from_onnx(model, given).evaluate().values()
    (real,) = reference.ReferenceEvaluator(model).run(None, {"x": given["x"].astype(np.float64)})
    assert found.dtype == np.int64 and np.abs(real - np.rint(real)).max() > 0.1
    assert np.array_equal(found, np.trunc(real + 1e-6))


def test_upsample_repeats() -> None:
    model = parsed(
        "s = Constant <value = float[4] {1, 1, 2, 3}> () y = Upsample(x, s)",
        inputs="float[1,2,2,3] x",
        outputs="float[1,2,4,9] y",
        opset=9,
    )
    given = examples(model)
    (found,) = from_onnx(model, given).evaluate().values()
    assert np.array_equal(found, given["x"].repeat(2, axis=2).repeat(3, axis=3))


def test_rows_of_a_table_from_the_end() -> None:
    """The indices come with a run, so the rows are an embedding's, which the chip computes."""
    model = parsed(
        "t = Constant <value = float[3,2] {0, 1, 2, 3, 4, 5}> () y = Gather(t, i)",
        inputs="int64[2] i",
        outputs="float[2,2] y",
    )
    chip = Chip("single", backend="model")
    program = compile(from_onnx(model, [np.array([0, 1])]), chip=chip)
    assert np.array_equal(program(np.array([-1, -3])), [[4, 5], [0, 1]])
