"""Graphs compiled to programs, against their meaning in NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest.graph.graph import Graph, Node
from tests.sw.graph.models import CHIP, CHIPS, check, normal, places, starts


def test_a_perceptron():
    """Bias and ReLU are the epilogue of a product; softmax is the host's."""
    graph = Graph(
        {"x": normal(1, 5, 16)},
        {"v": normal(2, 24, 16), "b": normal(3, 24), "w": normal(4, 3, 24)},
        (
            Node("h", "linear", ("x", "v", "b")),
            Node("r", "relu", ("h",)),
            Node("y", "linear", ("r", "w")),
            Node("z", "softmax", ("y",)),
        ),
        ("z",),
    )
    model = check(graph)
    assert places(model) == {"h": "chip", "r": "chip", "y": "chip", "z": "host"}
    assert len(model.layers) == 2 and starts(model) == 1
    assert "softmax" in str(model.placement)


def test_residuals_and_activations():
    graph = Graph(
        {"x": normal(1, 2, 5, 16)},
        {"w": normal(2, 16, 16), "b": normal(3, 16), "c": normal(4, 5, 16), "s": normal(5, 16)},
        (
            Node("h", "linear", ("x", "w", "b")),
            Node("r", "hardswish", ("h",)),
            Node("y", "add", ("r", "x")),
            Node("p", "add", ("y", "c")),
            Node("n", "mul", ("p", "s")),
            Node("t", "add", ("n", "b")),
            Node("z", "clamp", ("t",), {"low": -1, "high": 6}),
            Node("d", "sub", ("z", "y")),
        ),
        ("d", "y"),
    )
    model = check(graph)
    assert set(places(model).values()) == {"chip"} and starts(model) == 1


@pytest.mark.parametrize("batch", [1, 2])
def test_attention(batch):
    """Heads are views, so that a start covers all between what only the host computes."""
    E, H, T = 16, 4, 6
    heads = {"shape": (batch, T, H, E // H)}
    nodes = []
    for n in "qkv":
        nodes += [
            Node(n, "linear", ("x", f"w{n}", f"b{n}")),
            Node(f"{n}r", "reshape", (n,), heads),
            Node(f"{n}t", "transpose", (f"{n}r",), {"axes": (0, 2, 1, 3)}),
        ]
    nodes += [
        Node("kk", "transpose", ("kt",), {"axes": (0, 1, 3, 2)}),
        Node("s", "matmul", ("qt", "kk")),
        Node("sc", "mul", ("s", "half")),
        Node("m", "softmax", ("sc",)),
        Node("o", "matmul", ("m", "vt")),
        Node("ot", "transpose", ("o",), {"axes": (0, 2, 1, 3)}),
        Node("or", "reshape", ("ot",), {"shape": (batch, T, E)}),
        Node("y", "linear", ("or", "wq", "bq")),
        Node("res", "add", ("y", "x")),
        Node("ln", "layer_norm", ("res", "bk", "bv"), {"axes": [-1]}),
    ]
    constants = {f"w{n}": normal(ord(n), E, E) for n in "qkv"}
    constants |= {f"b{n}": normal(ord(n) + 9, E) for n in "qkv"} | {"half": np.float32(0.5)}
    graph = Graph({"x": normal(7, batch, T, E)}, constants, tuple(nodes), ("ln",))
    model = check(graph, tolerance=0.05)
    assert starts(model) == 2
    assert len(model.layers) == (7 if batch == 1 else 11)  # views of one axis; copies of two


@pytest.mark.parametrize(
    "a, b",
    [
        ((4,), (4,)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (6, 4, 5)),
        ((2, 6, 3, 4), (2, 1, 4, 5)),
        ((2, 6, 1, 4), (2, 6, 4, 1)),
    ],
)
def test_products_that_broadcast(a, b):
    graph = Graph(
        {"a": normal(1, *a), "b": normal(2, *b)}, {}, (Node("c", "matmul", ("a", "b")),), ("c",)
    )
    assert set(places(check(graph)).values()) == {"chip"}


@pytest.mark.parametrize(
    "a, b", [((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 3, 4), (3, 1)), ((5,), ()), ((1,), (2, 2))]
)
@pytest.mark.parametrize("operator", ["add", "sub", "mul"])
def test_elements_that_broadcast(operator, a, b):
    inputs = {"a": normal(1, *a), "b": normal(2, *b)}
    graph = Graph(inputs, {}, (Node("c", operator, ("a", "b")),), ("c",))
    assert set(places(check(graph)).values()) == {"chip"}


def test_sparse_weights_are_skipped():
    """Given as an array of SciPy or with zeros: a weight of 0 is no multiplication."""
    w = np.where(np.random.default_rng(3).random((32, 64)) < 0.1, normal(3, 32, 64), 0)
    for weight in (w, sp.csr_array(w)):
        graph = Graph(
            {"x": normal(4, 8, 64)}, {"w": weight}, (Node("y", "linear", ("x", "w")),), ("y",)
        )
        model = check(graph)
        assert model.report.multiplies == 8 * np.count_nonzero(w)


def test_what_no_kernel_computes():
    """The host does it, and the placement says so."""
    graph = Graph(
        {"x": normal(1, 2, 3), "i": np.array([1, 0])},
        {"w": normal(2, 3, 3)},
        (
            Node("j", "add", ("i", "i")),
            Node("g", "gather", ("x", "i"), {"axis": 0}),
            Node("f", "call", ("g",), {"function": np.cbrt}),
            Node("y", "linear", ("f", "w")),
        ),
        ("y", "j"),
    )
    model = check(graph)
    assert places(model) == {"j": "host", "g": "host", "f": "host", "y": "chip"}


def test_constants_are_folded():
    graph = Graph(
        {"x": normal(1, 2, 4)},
        {"w": normal(2, 4, 3), "s": np.float32(3)},
        (
            Node("wt", "transpose", ("w",), {"axes": (1, 0)}),
            Node("ws", "mul", ("wt", "s")),
            Node("y", "linear", ("x", "ws")),
            Node("unused", "relu", ("y",)),
        ),
        ("y",),
    )
    model = check(graph)
    assert places(model) == {"y": "chip"} and len(model.layers) == 1


def test_wrong_graphs():
    x = normal(1, 2, 3)
    with pytest.raises(ValueError, match="nothing before it computes 'w'"):
        Graph({"x": x}, {}, (Node("y", "linear", ("x", "w")),), ("y",))
    with pytest.raises(ValueError, match="unknown operator 'fft'"):
        Graph({"x": x}, {}, (Node("y", "fft", ("x",)),), ("y",))
    with pytest.raises(ValueError, match="output 'z': no node computes it"):
        Graph({"x": x}, {}, (), ("z",))
    with pytest.raises(ValueError, match=r"layers\.0: .*mismatch"):
        graph = Graph({"x": x}, {}, (Node("y", "matmul", ("x", "x"), {}, "layers.0"),), ("y",))
        loopnest.compile(graph, chip=CHIP)
    graph = Graph({"x": x}, {}, (Node("y", "relu", ("x",)),), ("y",))
    with pytest.raises(ValueError, match=r"x has shape \(3, 2\): expected \(2, 3\)"):
        loopnest.compile(graph, chip=CHIP).run(x=x.T)


def test_calibration():
    """Scales hold for all samples: what is larger than the example is not cut off."""
    x = normal(1, 4, 16)
    graph = Graph({"x": x}, {"w": normal(2, 8, 16)}, (Node("y", "linear", ("x", "w")),), ("y",))
    chip = CHIPS["int8"]
    expected = graph.evaluate({"x": 3 * x})["y"]

    def error(**options):
        found = loopnest.compile(graph, chip=chip, **options).run(x=3 * x)["y"]
        return np.max(np.abs(found - expected)) / np.max(np.abs(expected))

    assert error() > 0.3
    assert error(calibrate=[(x,), {"x": 3 * x}]) < 0.03
    with pytest.raises(ValueError, match="sample 0 has z: expected x"):
        error(calibrate=[{"z": x}])
    with pytest.raises(ValueError, match=r"sample 1: x has shape \(16, 4\): expected \(4, 16\)"):
        error(calibrate=[(x,), (x.T,)])
    with pytest.raises(TypeError, match="sample 0 is int"):
        error(calibrate=[1])
    with pytest.raises(TypeError, match="calibrate: expected a model"):
        loopnest.compile("y[i] = x[i]", {"x": np.ones(3)}, chip=chip, calibrate=[(x,)])
    empty = Graph({"x": 0 * x}, graph.constants, graph.nodes, graph.outputs)
    with pytest.raises(ValueError, match="input x: all examples are 0"):
        loopnest.compile(empty, chip=chip)
    bad = Graph(graph.inputs, {"w": np.full((8, 16), np.nan, np.float32)}, graph.nodes, ("y",))
    with pytest.raises(ValueError, match="w: expected finite weights for an int8 chip"):
        loopnest.compile(bad, chip=chip)


@pytest.mark.parametrize("operator", ["add", "mul", "linear", "matmul"])
def test_weights_that_are_no_numbers(operator):
    """An int8 chip refuses them by their name, whatever they are for; bf16 has them."""
    weights = normal(2, 4, 4)
    weights[1, 2] = np.nan
    graph = Graph(
        {"x": normal(1, 4, 4)}, {"w": weights}, (Node("y", operator, ("x", "w")),), ("y",)
    )
    with pytest.raises(ValueError, match="w: expected finite weights for an int8 chip"):
        loopnest.compile(graph, chip=CHIPS["int8"])
    found = loopnest.compile(graph, chip=CHIPS["bf16"]).run()["y"]
    assert np.array_equal(np.isnan(found), np.isnan(graph.evaluate()["y"]))


def test_inputs_that_are_no_numbers(tmp_path, monkeypatch):
    """An int8 chip refuses them by their name, before it is started; so does a saved program."""
    a, b = normal(1, 2, 4, 3), normal(2, 8, 3)
    nodes = (
        Node("r", "reshape", ("a",), {"shape": (8, 3)}),
        Node("t", "transpose", ("b",), {"axes": (1, 0)}),
        Node("h", "linear", ("r", "w")),
        Node("g", "tanh", ("h",)),
        Node("y", "matmul", ("g", "t")),
    )
    graph = Graph({"a": a, "b": b}, {"w": normal(3, 3, 3)}, nodes, ("y",))
    chip = CHIPS["int8"]
    program = loopnest.compile(graph, chip=chip)
    program.save(tmp_path / "net.lnp")
    loaded = loopnest.load(tmp_path / "net.lnp", chip=chip)
    before = program.run()["y"]
    a[1, 2, 1] = b[:2] = np.nan

    def started(*arguments):
        raise AssertionError("a kernel is run")

    for one in (program, loaded):
        with monkeypatch.context() as patch:
            patch.setattr("loopnest.program.device.run_start", started)
            with pytest.raises(ValueError, match="input a: 1 of 24 numbers are NaN: expected"):
                one.run(a=a)
            with pytest.raises(ValueError, match="input b: 6 of 24 numbers are NaN: expected"):
                one.run(b=b)
        assert np.array_equal(one.run()["y"], before)
    # what the host computes has a name of its own
    logs = (Node("l", "log", ("x",)), Node("y", "linear", ("l", "w")))
    x = np.abs(normal(4, 2, 3)) + 1
    program = loopnest.compile(Graph({"x": x}, {"w": normal(3, 3, 3)}, logs, ("y",)), chip=chip)
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=r"^l: 6 of 6 numbers are"):
        program.run(x=-x)


def test_a_part_of_a_graph():
    graph = Graph(
        {"x": normal(1, 2, 4)},
        {"v": normal(2, 4, 4), "w": normal(3, 3, 4)},
        (
            Node("h", "linear", ("x", "v")),
            Node("r", "relu", ("h",)),
            Node("y", "linear", ("r", "w")),
        ),
        ("y",),
    )
    part = graph.part({"r": graph.part(graph.inputs, ["r"]).evaluate()["r"]}, ["y"])
    assert list(part.inputs) == ["r"] and list(part.constants) == ["w"]
    assert np.array_equal(part.evaluate()["y"], graph.evaluate()["y"])
    with pytest.raises(ValueError, match="nothing before it computes 'x'"):
        graph.part({}, ["y"])


def test_names_of_a_model_that_look_like_made_ones():
    """What is made of a tensor has a name that no other tensor has."""
    constants = {f"{name}.{kind}": np.float32(n + 3) for n, (name, kind) in enumerate(
        [("y", "factor"), ("c", "term"), ("w", "steps0"), ("h", "narrow"), ("s", "hardsigmoid")]
    )}  # fmt: skip
    nodes = [Node("h", "linear", ("x", "w")), Node("y", "div", ("h", "c"))]
    last = "y"
    for n, name in enumerate(constants):
        nodes.append(Node(f"p{n}", "add", (last, name)))
        last = f"p{n}"
    nodes += [Node("s", "hardswish", (last,)), Node("z", "mul", ("s", "h"))]
    constants |= {"c": np.float32(2), "w": normal(2, 5, 4)}
    check(Graph({"x": normal(1, 3, 4)}, constants, tuple(nodes), ("z",)), tolerance=0.03)


def test_a_constant_in_sums_of_different_scales():
    graph = Graph(
        {"x": normal(1, 3, 4), "y": 50 * normal(2, 3, 4)},
        {"c": normal(3, 3, 4)},
        (Node("a", "add", ("x", "c")), Node("b", "add", ("y", "c"))),
        ("a", "b"),
    )
    check(graph)


def test_an_input_that_nothing_uses(tmp_path):
    x = normal(1, 2, 3)
    graph = Graph({"x": x, "other": x}, {}, (Node("y", "relu", ("x",)),), ("y",))
    model = check(graph)
    assert model.inputs == ("x", "other")
    model.save(tmp_path / "net.lnp")
    loaded = loopnest.load(tmp_path / "net.lnp", chip=CHIP)
    assert np.array_equal(loaded.run(x=x, other=-x)["y"], np.maximum(CHIP.tensor(x).to_dense(), 0))


def test_more_elements_than_the_accumulator_holds():
    """An epilogue that makes another value of 0 visits all of them, a row at a time."""
    graph = Graph(
        {"x": normal(1, 100, 100)},
        {"w": normal(2, 100, 100) / 10, "one": np.float32(1)},
        (
            Node("h", "linear", ("x", "w")),
            Node("r", "add", ("h", "x")),
            Node("b", "add", ("r", "one")),
            Node("y", "linear", ("b", "w")),
        ),
        ("y",),
    )
    model = check(graph)
    assert starts(model) == 1
    assert all(plan.fits for plan in model.explain().plans)


def test_terms_far_larger_than_what_they_are_added_to():
    """An int8 chip has no integers for both: the host adds them."""
    far, mask = 1e4 + normal(3, 3, 4), np.where(normal(4, 3, 4) > 0, 0, np.finfo(np.float32).min)
    for constant in (far, mask.astype(np.float32)):
        nodes = Node("a", "add", ("x", "c")), Node("y", "softmax", ("a",), {"axis": -1})
        graph = Graph({"x": normal(1, 3, 4)}, {"c": constant}, nodes, ("y",))
        model = loopnest.compile(graph, chip=CHIPS["int8"])
        assert places(model)["a"] == "host"
        assert np.allclose(model.run()["y"], graph.evaluate()["y"], atol=0.02)
        graph = Graph({**graph.inputs, "c": constant}, {}, nodes, ("y",))
        model = loopnest.compile(graph, chip=CHIPS["int8"])
        assert places(model)["a"] == "host"
        assert np.allclose(model.run()["y"], graph.evaluate()["y"], atol=0.02)


def test_a_batch_without_images():
    layers = (
        Node("c", "conv", ("x", "w"), {**ONE_PIXEL, "groups": 1}),
        Node("r", "relu", ("c",)),
        Node("m", "mean", ("r",), {"axes": (2, 3)}),
        Node("y", "linear", ("m", "v")),
    )
    graph = Graph(
        {"x": normal(0, 0, 3, 4, 4)},
        {"w": normal(1, 5, 3, 1, 1), "v": normal(2, 2, 5)},
        layers,
        ("y",),
    )
    assert check(graph)(normal(0, 0, 3, 4, 4)).shape == (0, 2)


ONE_PIXEL = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_results_that_are_changed_afterwards(chip):
    """A result shares no memory with the program, nor with its inputs."""
    x, w, b = normal(1, 2, 4), normal(2, 3, 4), normal(3, 3)
    graph = Graph(
        {"x": x},
        {"w": w, "b": b},
        (Node("y", "linear", ("x", "w")), Node("z", "softmax", ("b",))),
        ("y", "z", "w", "x"),
    )
    model = loopnest.compile(graph, chip=chip)
    expected = [np.array(found) for found in model()]
    for array in (x, *model()):
        array[:] = 9
    for before, after in zip(expected, model(), strict=True):
        np.testing.assert_array_equal(before, after)
    given = np.ones((2, 4), np.float32)
    for found in model(given):
        found[:] = 9
    assert (given == 1).all()


def test_a_layer_without_outputs():
    graph = Graph(
        {"x": normal(1, 2, 4)},
        {"w": np.zeros((0, 4), np.float32), "b": np.zeros(0, np.float32)},
        (Node("y", "linear", ("x", "w", "b")),),
        ("y",),
    )
    assert loopnest.compile(graph, chip=CHIP)().shape == (2, 0)


def test_arguments_of_compile():
    graph = Graph({"x": normal(1, 2, 4)}, {}, (Node("y", "relu", ("x",)),), ("y",))
    with pytest.raises(TypeError, match="calibrate=3"):
        loopnest.compile(graph, chip=CHIP, calibrate=3)
    with pytest.raises(TypeError, match="5 bytes"):
        loopnest.compile(b"model", chip=CHIP)
    with pytest.raises(TypeError, match="expected the operands by name"):
        loopnest.compile("y[i] = x[i]", np.ones(3), chip=CHIP)
