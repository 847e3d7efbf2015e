"""The meaning of each operator, against PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.operators import OPERATORS
from loopnest.operators.__main__ import rows

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812

Case = tuple[list[Any], dict[str, Any], Callable[..., Any]]
"""Inputs, attributes, and the same in PyTorch."""

generator = np.random.default_rng(11)


def drawn(*shape: int) -> Any:
    return generator.standard_normal(shape).astype(np.float32)


x = drawn(2, 4, 5, 6)
y = drawn(4, 1, 6)
positive = np.abs(x) + np.float32(0.1)
truth = x > 0
ids = np.array([[1, 4], [0, 1]])
weight, bias = drawn(4), drawn(4)
nan = np.where(x > 1, np.nan, x)
masked = np.where(np.arange(6) < np.arange(5)[:, None], x, -np.inf).astype(np.float32)

CASES: dict[str, list[Case]] = {
    "linear": [
        ([drawn(2, 3, 6), drawn(5, 6), drawn(5)], {}, F.linear),
        ([drawn(6), drawn(5, 6)], {}, F.linear),
    ],
    "matmul": [
        ([drawn(2, 1, 3, 4), drawn(5, 4, 2)], {}, torch.matmul),
        ([drawn(4), drawn(4)], {}, torch.matmul),
    ],
    "conv": [
        (
            [x, drawn(6, 2, 3, 2), drawn(6)],
            {
                "stride": (2, 1),
                "padding": ((1, 1), (0, 0)),
                "dilation": (1, 2),
                "groups": 2,
            },
            lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2), 2),
        ),
        (
            [x[:, :, 0], drawn(4, 1, 3)],
            {"stride": (1,), "padding": ((2, 1),), "dilation": (1,), "groups": 4},
            lambda x, w: F.conv1d(F.pad(x, (2, 1)), w, groups=4),
        ),
    ],
    "embedding": [([ids, drawn(5, 3)], {}, F.embedding)],
    "embedding_bag": [
        (
            [np.array([1, 4, 0, 1]), np.array([0, 3, 3]), drawn(5, 3)],
            {"mode": mode},
            lambda i, o, t, mode=mode: F.embedding_bag(i, t, o, mode=mode),
        )
        for mode in ("sum", "mean", "max")
    ]
    + [
        (
            [np.array([1, 4, 0, 1]), np.array([0, 3, 3]), drawn(5, 3), drawn(4)],
            {"mode": "sum", "padding": 4},
            lambda i, o, t, w: F.embedding_bag(
                i, t, o, per_sample_weights=w, padding_idx=4, mode="sum"
            ),
        )
    ],
    "add": [([x, y], {}, torch.add)],
    "sub": [([x, y], {}, torch.sub)],
    "mul": [([x, y], {}, torch.mul)],
    "relu": [([x], {}, F.relu)],
    "clamp": [
        ([x], {"low": -0.5, "high": 1}, lambda x: x.clamp(-0.5, 1)),
        ([x], {"high": 0}, lambda x: x.clamp(max=0)),
    ],
    "hardsigmoid": [
        ([3 * x], {}, F.hardsigmoid),
        ([3 * x], {"slope": 0.2}, lambda x: (0.2 * x + 0.5).clamp(0, 1)),
    ],
    "hardswish": [([3 * x], {}, F.hardswish)],
    "sum": [([x], {"axes": (1, 3)}, lambda x: x.sum((1, 3)))],
    "mean": [([x], {"axes": (0,), "keepdims": True}, lambda x: x.mean(0, keepdim=True))],
    "max": [([x], {"axes": (0, 2)}, lambda x: x.amax((0, 2)))],
    "min": [([x], {"axes": (0, 2)}, lambda x: x.amin((0, 2)))],
    "max_pool": [
        (
            [x - 5],
            {
                "kernel": (3, 2),
                "stride": (2, 1),
                "padding": ((1, 1), (1, 1)),
                "dilation": (1, 2),
            },
            lambda x: F.max_pool2d(x, (3, 2), (2, 1), 1, (1, 2)),
        )
    ],
    "avg_pool": [
        (
            [x],
            {
                "kernel": (3, 2),
                "stride": (2, 1),
                "padding": ((1, 1), (0, 0)),
                "count_padding": count,
                "divisor": divisor,
            },
            lambda x, count=count, divisor=divisor: F.avg_pool2d(
                x, (3, 2), (2, 1), (1, 0), count_include_pad=count, divisor_override=divisor
            ),
        )
        for count, divisor in ((True, None), (False, None), (True, 5))
    ],
    "reshape": [([x], {"shape": (8, 30)}, lambda x: x.reshape(8, 30))],
    "transpose": [([x], {"axes": (2, 0, 3, 1)}, lambda x: x.permute(2, 0, 3, 1))],
    "broadcast": [([y], {"shape": (2, 4, 5, 6)}, lambda y: y.expand(2, 4, 5, 6))],
    "slice": [
        (
            [x],
            {"axes": (1, 3), "starts": (1, 0), "stops": (4, 6), "steps": (1, 2)},
            lambda x: x[:, 1:4, :, ::2],
        )
    ],
    "pad": [
        (
            [x],
            {"padding": ((0, 0), (0, 0), (1, 0), (2, 3)), "value": -1.5},
            lambda x: F.pad(x, (2, 3, 1, 0), value=-1.5),
        )
    ],
    "concat": [([x, x[:, :1]], {"axis": 1}, lambda a, b: torch.cat([a, b], 1))],
    "softmax": [
        ([x], {"axis": 1}, lambda x: x.softmax(1)),
        ([100 * x], {"axis": -1, "logarithm": True}, lambda x: x.log_softmax(-1)),
        ([masked[:, :, 1:]], {}, lambda x: x.softmax(-1)),
        ([masked], {}, lambda x: x.softmax(-1)),
        ([masked], {"masked": True}, lambda x: x.softmax(-1).nan_to_num()),
    ],
    "layer_norm": [
        (
            [x, drawn(5, 6), drawn(5, 6)],
            {"axes": (2, 3), "epsilon": 0.1},
            lambda x, w, b: F.layer_norm(x, (5, 6), w, b, 0.1),
        )
    ],
    "rms_norm": [
        (
            [x, drawn(6)],
            {"axes": (3,), "epsilon": 0.1},
            lambda x, w: F.rms_norm(x, (6,), w, 0.1),
        )
    ],
    "group_norm": [
        (
            [x, weight, bias],
            {"groups": 2, "epsilon": 0.1},
            lambda x, w, b: F.group_norm(x, 2, w, b, 0.1),
        )
    ],
    "gelu": [
        ([x], {}, F.gelu),
        ([x], {"approximate": True}, lambda x: F.gelu(x, approximate="tanh")),
    ],
    "leaky_relu": [([x], {"slope": 0.3}, lambda x: F.leaky_relu(x, 0.3))],
    "elu": [([x], {"alpha": 0.7}, lambda x: F.elu(x, 0.7))],
    "div": [
        ([x, positive], {}, torch.div),
        (
            [np.array([7, -7]), np.array([2])],
            {},
            lambda a, b: torch.div(a, b, rounding_mode="trunc"),
        ),
    ],
    "pow": [([positive, y], {}, torch.pow)],
    "minimum": [([x, y], {}, torch.minimum)],
    "maximum": [([x, y], {}, torch.maximum)],
    "compare": [
        ([x.round(), y.round()], {"relation": relation}, function)
        for relation, function in {
            "equal": torch.eq,
            "not_equal": torch.ne,
            "less": torch.lt,
            "less_equal": torch.le,
            "greater": torch.gt,
            "greater_equal": torch.ge,
        }.items()
    ],
    "logical": [
        ([truth, y > 0], {"operation": operation}, getattr(torch, f"logical_{operation}"))
        for operation in ("and", "or", "xor")
    ],
    "not": [([truth], {}, torch.logical_not)],
    "isnan": [([nan], {}, torch.isnan)],
    "where": [([truth, x, y], {}, torch.where)],
    "gather": [
        ([x, ids], {"axis": 2}, lambda x, i: x[:, :, i]),
        ([x, np.array(-1)], {"axis": 1}, lambda x, i: x[:, -1]),
    ],
    "cast": [([3 * x], {"dtype": "int32"}, lambda x: x.int())],
    "round": [([np.array([0.5, 1.5, -2.5, 2.6], np.float32)], {}, torch.round)],
    "cumsum": [([x], {"axis": 2}, lambda x: x.cumsum(2))],
    "argmax": [([x], {"axis": 1, "keepdims": True}, lambda x: x.argmax(1, keepdim=True))],
    "top_k": [
        (
            [x],
            {"k": 2, "axis": axis, "largest": largest, "indices": indices},
            lambda x, axis=axis, largest=largest, indices=indices: x.topk(2, axis, largest=largest)[
                indices
            ],
        )
        for axis, largest, indices in ((1, True, False), (-1, False, False), (2, True, True))
    ],
    "scatter": [
        ([x, x.argsort(1)[:, :2], -x[:, 2:]], {"axis": 1}, lambda x, i, u: x.scatter(1, i, u))
    ],
    "arrange": [
        (
            [x],
            {
                "stored": (8, 5, 6),
                "index": ((1, 8, 2), 3, (0, 6, 1)),
                "axes": (3, 0),
                "shape": (6, 2, 1, 4),
            },
            lambda x: x.reshape(8, 5, 6)[1::2, 3].T[:, None, None].expand(6, 2, 1, 4),
        )
    ],
    "to_steps": [
        (
            [x],
            {"scale": 0.25, "low": -3, "high": 3},
            lambda x: (x / 0.25).round().clamp(-3, 3).int(),
        )
    ],
    "from_steps": [([ids.astype(np.int32)], {"scale": 0.25}, lambda i: i * 0.25)],
    "one_hot": [([ids], {"rows": 6}, lambda i: F.one_hot(i.flatten(), 6).float())],
    "bags": [
        (
            [
                np.array([1, 4, 0, 1]),
                np.array([0, 3, 3]),
            ],
            {"rows": 5, "mode": mode},
            lambda i, o, mode=mode: F.embedding_bag(i, torch.eye(5), o, mode=mode),
        )
        for mode in ("sum", "mean")
    ],
    "floor": [([x], {}, torch.floor)],
    "ceil": [([x], {}, torch.ceil)],
    "sign": [([x], {}, torch.sign)],
    "mod": [
        ([x, y], {}, torch.remainder),
        ([x, y], {"truncated": True}, torch.fmod),
        ([np.array([-7, 7]), np.array([3, -3])], {}, torch.remainder),
    ],
    "take_along": [
        ([x, x.argsort(2)[:, :1, :3]], {"axis": 2}, lambda x, i: x.gather(2, i)),
    ],
    "gather_nd": [
        (
            [x, np.array([[[1, 3], [0, 2]]])],
            {},
            lambda x, i: x[i[..., 0], i[..., 1]],
        ),
        (
            [x, np.array([[[1]], [[3]]])],
            {"batch_axes": 1},
            lambda x, i: torch.stack([x[0, 1:2], x[1, 3:4]]),
        ),
    ],
    "einsum": [
        ([x, y], {"equation": "nchw,cow->nco"}, lambda x, y: torch.einsum("nchw,cow->nco", x, y))
    ],
    "prod": [([x], {"axes": (1,)}, lambda x: x.prod(1))],
    "place_parts": [
        (
            [y, y[:1]],
            {
                "shape": (y.shape[0] + 1, y[0].size + 2),
                "firsts": [(0, 1), (y.shape[0], 2)],
                "sizes": [(y.shape[0], y[0].size), (1, y[0].size)],
            },
            lambda a, b: torch.cat((F.pad(a.flatten(1), (1, 1)), F.pad(b.flatten(1), (2, 0)))),
        )
    ],
    "place_pixels": [
        (
            [x],
            {"origin": 3, "steps": (60, 10, 1), "positions": 130},
            lambda x: F.pad(
                F.pad(x, (3, 1, 0, 1)).permute(0, 2, 3, 1).reshape(120, 4), (0, 0, 0, 10)
            ),
        )
    ],
    "take_pixels": [
        (
            [drawn(130, 4)],
            {"origin": 3, "steps": (60, 10, 1), "size": (2, 5, 6)},
            lambda x: x[:120].reshape(2, 6, 10, 4)[:, :5, 3:9].permute(0, 3, 1, 2),
        )
    ],
    "quantize": [
        (
            [100 * x, np.float32(0.75), np.array(3, dtype)],
            {},
            lambda x, s, z, low=low: ((x / s).round() + z).clamp(low, low + 255).to(z.dtype),
        )
        for dtype, low in ((np.int8, -128), (np.uint8, 0))
    ],
    "centred": [
        (
            [np.array([0, 255], np.uint8), np.array(100, np.uint8)],
            {},
            lambda x, z: x.float() - z.float(),
        )
    ],
    "fake_quantize": [
        (
            [x],
            {"scale": 0.25, "low": -3, "high": 4},
            lambda x: torch.fake_quantize_per_tensor_affine(x, 0.25, 0, -3, 4),
        )
    ],
    "dequantize": [
        (
            [
                generator.integers(-128, 128, (4, 3)).astype(np.int8),
                np.array([0.5, 2, 1], np.float32),
                np.array([0, -3, 7], np.int8),
            ],
            {"axis": 1},
            lambda x, s, z: (x.float() - z) * s,
        )
    ],
    "call": [([x], {"function": lambda x: x + 1}, lambda x: x + 1)],
}
for _name in ("silu", "sigmoid", "tanh", "exp", "erf", "sin", "cos", "abs"):
    CASES[_name] = [([x], {}, F.silu if _name == "silu" else getattr(torch, _name))]
for _name in ("log", "sqrt", "reciprocal"):
    CASES[_name] = [([positive], {}, getattr(torch, _name))]


def test_documentation() -> None:
    """docs/models.md has the output of `python -m loopnest.operators`."""
    page = Path(__file__).parents[3] / "docs" / "models.md"
    assert [line for line in rows() if line not in page.read_text().splitlines()] == []


def test_all_operators_have_cases() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    for inputs, attributes, function in CASES[name]:
        before = [np.array(t) for t in inputs]
        with np.errstate(invalid="ignore", divide="ignore"):
            found = OPERATORS[name].reference(*inputs, **attributes)
        found = found.toarray() if sp.issparse(found) else found
        wanted = np.asarray(function(*(torch.from_numpy(t) for t in before)))
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
        else:
            np.testing.assert_array_equal(found, wanted)
        for one, other in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(one, other)
