"""What the placement of a model tells of its statements: formats, and cycles beside those without
a zero.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

import loopnest
from loopnest.graph import model as models
from loopnest.graph.graph import Graph, Node
from loopnest.program import program as programs
from tests.sw.graph.models import CHIPS, normal
from tests.sw.graph.test_images import window

PER_MULTIPLY = 3


@pytest.fixture
def counted(monkeypatch):
    """The golden model counts cycles, some for each multiply; returns the programs that run."""
    real, ran = programs.execute_contents, []

    def execute(device, contents, values):
        found, layers = real(device, contents, values)
        ran.append(contents)
        return found, {
            name: replace(report, cycles=PER_MULTIPLY * report.multiplies)
            for name, report in layers.items()
        }

    monkeypatch.setattr(programs, "execute_contents", execute)
    return ran


def network():
    """Return sparse weights, an activation whose zeros are not stored, and a host's operator."""
    sparse = normal(2, 64, 32) * (np.random.default_rng(3).random((64, 32)) < 0.1)
    return Graph(
        {"x": normal(1, 16, 32)},
        {"v": sparse, "w": normal(4, 8, 64)},
        (
            Node("h", "linear", ("x", "v")),
            Node("r", "relu", ("h",)),
            Node("y", "linear", ("r", "w")),
            Node("z", "softmax", ("y",)),
        ),
        ("z",),
    )


def rows(model):
    return {row["origin"].split()[1]: row for row in model.placement.rows()}


@pytest.mark.parametrize("dtype", CHIPS)
def test_formats(dtype):
    """Of the operands and the result; what operators of one statement have in common."""
    model = loopnest.compile(network(), chip=CHIPS[dtype])
    found = rows(model)
    first, second = found["h"]["format"], found["y"]["format"]
    # the activation's, which both have, is between the input's and weights' and the result's
    assert list(first.values()) == ["dense", "dense,compressed", "dense,compressed"]
    assert list(second.values()) == ["dense,compressed", "dense", "dense"]
    assert list(first)[2] == next(iter(second)) == found["h"]["layer"]
    assert found["r"]["format"] == first
    assert found["z"]["format"] is None
    without = rows(model.dense())
    assert {*without["h"]["format"].values(), *without["y"]["format"].values()} == {"dense"}


def test_cycles_are_estimated():
    model = loopnest.compile(network(), chip=CHIPS["bf16"])
    assert model.compare()[0].where == "chip" and not model.dense().layers
    found = rows(model)
    for name in "hry":
        row = found[name]
        assert row["cycles"] == model.expected[row["layer"]]
        assert row["dense_cycles"] == model.dense().expected[row["layer"]]
        assert not row["cycles_measured"] and not row["dense_measured"]
    assert found["h"]["dense_cycles"] > 2 * found["h"]["cycles"]
    assert found["z"]["cycles"] is found["z"]["dense_cycles"] is None
    assert json.loads(json.dumps(found)) == found
    head, h, r, y, z = str(model.placement).split("\n")
    assert head.split() == [
        *("operator", "where", "weights", "result", "cycles", "dense", "run", "format", "of")
    ]
    cycles, slow = (f"about {found['h'][name]:,.0f}" for name in ("cycles", "dense_cycles"))
    assert f"{cycles}  {slow}  v dense,compressed; r dense,compressed" in " ".join(h.split("   "))
    assert "about" in y and "about" not in r + z and z.endswith("z: no kernel computes it")


def test_cycles_are_measured(counted):
    """Of the program, and of its dense run if there was one."""
    model = loopnest.compile(network(), chip=CHIPS["bf16"])
    model()
    found = rows(model)
    assert all(found[name]["cycles_measured"] for name in "hry")
    assert not any(row["dense_measured"] for row in found.values())
    model.dense()()
    found = rows(model)
    sizes = {"h": 16 * 32 * 64, "r": 16 * 32 * 64, "y": 16 * 64 * 8}
    for name, size in sizes.items():
        row = found[name]
        assert row["cycles"] == PER_MULTIPLY * model.layers[row["layer"]].multiplies
        assert row["dense_measured"] and row["dense_cycles"] == PER_MULTIPLY * size
    assert "about" not in str(model.placement) and f"{3 * sizes['h']:,}  v" in str(model.placement)
    other = model.on(CHIPS["bf16"])
    assert not any(row["cycles_measured"] or row["dense_measured"] for row in rows(other).values())
    assert len(counted) == 2 and rows(model) == found


def test_comparing_runs_what_is_not_too_large(counted, monkeypatch):
    model = loopnest.compile(network(), chip=CHIPS["bf16"])
    whole = sum(model.dense().expected.values())
    monkeypatch.setattr(models, "MAX_DENSE_CYCLES", whole - 1)
    first = next(iter(model.compare().rows()))
    assert first["cycles_measured"] and not first["dense_measured"] and len(counted) == 1
    monkeypatch.setattr(models, "MAX_DENSE_CYCLES", whole)
    first = next(iter(model.compare(normal(5, 16, 32)).rows()))
    assert first["dense_measured"] and len(counted) == 3
    model.compare()
    assert len(counted) == 4  # the dense run takes as long with any input


def test_what_only_prepares_counts_with_what_it_is_for():
    """A dense run repeats the channels of a depthwise convolution with a multiplier."""
    x = normal(1, 2, 24, 7, 7)
    graph = Graph(
        {"x": np.where(np.abs(x) > 1.6, x, 0)},
        {"w": normal(2, 48, 1, 3, 3)},
        (Node("y", "conv", ("x", "w"), window(padding=1, groups=24)),),
        ("y",),
    )
    model = loopnest.compile(graph, chip=CHIPS["bf16"])
    (row,) = model.placement.rows()
    assert np.isclose(row["cycles"], sum(model.expected.values()))
    assert np.isclose(row["dense_cycles"], sum(model.dense().expected.values()))
    assert [*model.expected] == ["y"] and [*model.dense().expected] == ["x_repeated", "y"]


def test_planning_waits_for_rows(monkeypatch):
    """Without a zero; where that takes too much memory, the other columns remain."""

    def refuses(self):
        raise ValueError("takes too much")

    monkeypatch.setattr(models.Model, "_filled", refuses)
    model = loopnest.compile(network(), chip=CHIPS["bf16"])
    assert [placed.where for placed in model.placement] == ["chip", "chip", "chip", "host"]
    assert rows(model)["h"]["dense_cycles"] is None and rows(model)["h"]["cycles"]
    assert "about" in str(model.placement)
    with pytest.raises(ValueError, match="too much"):
        model.dense()
