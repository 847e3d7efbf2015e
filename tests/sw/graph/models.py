"""Compiles graphs, and compares what they compute with their meaning in NumPy."""

import numpy as np

import loopnest
from loopnest import Chip
from loopnest.program.steps import HostStep

CHIPS = {dtype: Chip("single", dtype=dtype, backend="model") for dtype in ("bf16", "int8")}
CHIP = CHIPS["bf16"]


def normal(seed, *shape):
    """Return drawn numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check(graph, *, tolerance=0.02):
    """Compile a graph, compare what it computes with NumPy, return the model on a bf16 chip: two
    inputs in bf16, and in int8 those that the scales are made for.
    """
    turned = {
        name: -array if array.dtype.kind == "f" else array for name, array in graph.inputs.items()
    }
    models = {}
    for dtype, chip in CHIPS.items():
        models[dtype] = model = loopnest.compile(graph, chip=chip)
        assert model.results == graph.outputs
        for inputs in (graph.inputs, turned)[: 2 if dtype == "bf16" else 1]:
            found, expected = model.run(**inputs), graph.evaluate(inputs)
            assert list(found) == list(expected)
            for name, array in expected.items():
                assert found[name].shape == array.shape, name
                error = np.max(np.abs(found[name] - array), initial=0)
                most = tolerance * (1 if dtype == "bf16" else 2)
                assert error <= most * np.max(np.abs(array), initial=1e-9), (dtype, name)
    assert list(places(models["int8"])) == list(places(models["bf16"]))
    return models["bf16"]


def places(model):
    """Return where the operators are computed, by the names of their results."""
    return {placed.node.result: placed.where for placed in model.placement}


def starts(model):
    """Return the number of host steps between kernels, plus one."""
    kinds = [isinstance(step, HostStep) for step in model.explain().steps]
    inner = "".join("h" if kind else "k" for kind in kinds).strip("h")
    return len([part for part in inner.split("h") if part])
