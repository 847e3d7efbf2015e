"""Layouts of images, and layers on them as statements, beside PyTorch's."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Chip, Epilogue, Memory, Tensor
from loopnest.images.convolution import convolution
from loopnest.images.layout import CrowdedError, ImageLayout
from loopnest.images.pooling import avg_pool, global_average, max_pool, repack
from loopnest.program.chain import find_chain
from loopnest.program.steps import KernelStep

torch = pytest.importorskip("torch")
functional = torch.nn.functional

MEMORY = Memory(fill=0xA5)
CHIPS = {d: Chip(dtype=d, backend="model", memory=MEMORY) for d in ("int8", "bf16")}


def integers(rng, shape, density=1.0):
    return rng.integers(-3, 4, shape) * (rng.random(shape) < density)


def reference(function, *arrays, **arguments):
    return function(*(torch.tensor(a, dtype=torch.float64) for a in arrays), **arguments).numpy()


def dense(tensor):
    if isinstance(tensor, Tensor):
        return tensor.to_dense()
    return tensor.toarray() if sp.issparse(tensor) else np.asarray(tensor)


def run(chip, layer, images, layout, epilogue=None, **arguments):
    """Run a layer as a program; return the result's images."""
    step = layer.assignment(epilogue, **arguments)
    program = loopnest.compile(step, {"image": layout.pack(images), **layer.operands}, chip=chip)
    (kernel,) = program.explain().steps
    assert isinstance(kernel, KernelStep)
    found = dense(program())
    assert found.shape == layer.layout.shape and not found[~layer.layout.is_pixel].any()
    return layer.layout.unpack(found)


def test_the_smallest_layout():
    layout = ImageLayout.make(2, (3, 4), 5, border=((1, 2), (0, 1)))
    assert (layout.row_step, layout.image_step, layout.origin) == (5, 25, 5)
    assert layout.positions == 5 + 25 + 2 * 5 + 3 + 2 * 5 + 1 + 1
    assert layout.has_border(((1, 2), (0, 1))) and layout.has_border(((0, 1), (1, 1)))
    for pads in (((2, 0), (0, 0)), ((0, 3), (0, 0)), ((1, 0), (1, 0)), ((0, 0), (0, 2))):
        assert not layout.has_border(pads)
    rng = np.random.default_rng(1)
    images = integers(rng, (2, 5, 3, 4))
    packed = layout.pack(images)
    assert packed.shape == layout.shape == (layout.positions, 5)
    assert not packed[~layout.is_pixel].any() and layout.is_pixel.sum() == 24
    assert np.array_equal(packed, layout.pack(np.moveaxis(images, 1, -1), "NHWC"))
    for source in (packed, sp.csr_array(packed), Tensor.from_dense(packed)):
        assert np.array_equal(layout.unpack(source), images)
    assert np.array_equal(layout.unpack(packed, "NHWC"), np.moveaxis(images, 1, -1))
    assert np.array_equal(layout.wanted.toarray(), layout.is_pixel)
    signals = ImageLayout.make(2, (6,), 5, border=2)
    assert signals.pack(images[:, :, :2, :3].reshape(2, 5, 6)).shape == (2 + 8 + 6 + 2, 5)


@pytest.mark.parametrize("dtype", CHIPS)
@pytest.mark.parametrize("seed", range(12))
def test_convolutions(dtype, seed):
    rng = np.random.default_rng(seed)
    dimensions = 1 + seed % 2
    kind = ("dense", "dense", "groups", "depthwise", "multiplier")[seed % 5]
    groups = {"dense": 1, "groups": 2, "depthwise": 6, "multiplier": 3}[kind]
    channels = {"dense": int(rng.integers(1, 7))}.get(kind, 6 if kind != "multiplier" else 3)
    filters = {"depthwise": 6, "multiplier": 6}.get(kind, 2 * int(rng.integers(1, 6)))
    size = rng.integers(5, 9, dimensions).tolist()
    kernel, stride = (rng.integers(1, 4, dimensions).tolist() for _ in range(2))
    dilation = rng.integers(1, 3, dimensions).tolist()
    pads = [sorted(rng.integers(0, 3, 2).tolist()) for _ in range(dimensions)]
    batch = int(rng.integers(1, 4))
    images = integers(rng, (batch, channels, *size), rng.choice([0.2, 1]))
    weights = integers(rng, (filters, channels // groups, *kernel), rng.choice([0.3, 1]))
    around = functional.pad(torch.tensor(images), [n for side in pads[::-1] for n in side])
    function = (functional.conv1d, functional.conv2d)[dimensions - 1]
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    want = reference(function, around.numpy(), weights, **options)
    bias = integers(rng, filters) if seed % 3 else None
    if bias is not None:
        want = np.maximum(want + bias.reshape(-1, *[1] * dimensions), 0)
    layout = ImageLayout.make(
        batch,
        size,
        channels,
        border=pads,
        pitch=20,
        strides=rng.integers(1, 5, dimensions).tolist(),
    )
    layer = convolution(layout, weights, padding=pads, border=1, **options)
    assert layer.layout.has_border(((1, 1),) * dimensions)
    epilogue = None if bias is None else Epilogue(bias=bias, relu=True)
    assert np.array_equal(run(CHIPS[dtype], layer, images, layout, epilogue), want)


def test_a_result_for_what_is_wanted():
    rng = np.random.default_rng(3)
    images, weights = integers(rng, (2, 4, 6, 6)), integers(rng, (5, 4, 3, 3))
    layout = ImageLayout.make(2, (6, 6), 4, border=1)
    every = convolution(layout, weights, padding=1)
    wanted = rng.random((2, 6, 6)) < 0.3
    some = convolution(layout, weights, padding=1, wanted=wanted)
    whole = run(CHIPS["int8"], every, images, layout)
    assert np.array_equal(run(CHIPS["int8"], some, images, layout), whole * wanted[:, None])


@pytest.mark.parametrize("stride", [(2, 2), (2, 1), (1, 2)])
def test_results_of_strides_stay_dense_in_a_layout_for_them(stride):
    weights = np.ones((4, 4, 3, 3))
    wastes = []
    for strides in (1, [n**3 for n in stride]):
        layout = ImageLayout.make(4, (15, 15), 4, border=1, pitch=23, strides=strides)
        assert layout.has_border(((1, 1), (1, 1)))
        for _ in range(3):
            layout = convolution(layout, weights, stride=stride, padding=1, border=1).layout
        wastes.append(layout.waste)
    assert wastes[1] < 0.4 * wastes[0]


def test_repacking():
    rng = np.random.default_rng(4)
    images = integers(rng, (2, 5, 4, 3))
    layout = ImageLayout.make(2, (4, 3), 5, border=2)
    to = ImageLayout.make(2, (4, 3), 5, border=1, strides=(4, 2))
    for dtype in CHIPS:
        layer = repack(layout, to)
        assert layer.layout is to
        assert np.array_equal(run(CHIPS[dtype], layer, images, layout), images)
    with pytest.raises(ValueError, match=r"layout of \(2, 4, 3, 6\) .*: expected \(2, 4, 3, 5\)"):
        repack(layout, ImageLayout.make(2, (4, 3), 6))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"the windows reach \(\(2, 2\), \(1, 1\)\) pixels", {"padding": (2, 1)}),
        (ValueError, "border=.* has no room .* with pitch=.7, 5.",
         {"border": ((0, 3), 1), "padding": 1}),
        (ValueError, "weights of 3 x 3 with dilation=4: expected up to 6 x 6",
         {"dilation": 4, "padding": 1}),
        (ValueError, "groups=3: expected a divisor of 4 channels", {"groups": 3}),
        (ValueError, r"weights of shape \(6, 4, 3, 3\): expected \(filters, 2, height, width\), "
         "with filters a multiple of 2", {"groups": 2}),
        (ValueError, r"padding=\(1, 2, 3\): expected 0 or more", {"padding": (1, 2, 3)}),
        (ValueError, "padding=-1: expected 0 or more", {"padding": -1}),
        (ValueError, "stride=0: expected 1 or more", {"stride": 0}),
        (TypeError, "dilation=1.5: expected an integer", {"dilation": 1.5}),
        (ValueError, r"wanted of shape \(2, 3\): expected \(2, 2\)", {"wanted": np.ones((2, 3))}),
    ],
)  # fmt: skip
def test_convolutions_that_do_not_fit(error, message, arguments):
    layout = ImageLayout.make(2, (4, 4), 4, border=1)
    with pytest.raises(error, match=message):
        convolution(layout, np.ones((6, 4, 3, 3)), **arguments)


def test_layouts_that_do_not_fit():
    for message, call in {
        "positions with their border": lambda: ImageLayout.make(64, (224, 224), 3),
        "batch=0: expected 1 or more": lambda: ImageLayout.make(0, (4, 4), 3),
        "border=-1: expected 0 or more": lambda: ImageLayout.make(1, (4, 4), 3, border=-1),
        r"expected \(width,\) or": lambda: ImageLayout.make(1, (4, 4, 4), 3),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    layout = ImageLayout.make(1, (4, 4), 3)
    with pytest.raises(ValueError, match=r"shape \(1, 4, 4, 3\): expected \(1, 3, 4, 4\)"):
        layout.pack(np.ones((1, 4, 4, 3)))
    with pytest.raises(ValueError, match="order='NCW': expected NCHW or NHWC"):
        layout.pack(np.ones((1, 3, 4, 4)), "NCW")
    with pytest.raises(ValueError, match=r"shape \(15, 3\): expected \(16, 3\)"):
        layout.unpack(np.ones((15, 3)))
    with pytest.raises(CrowdedError):
        ImageLayout(batch=1, height=2, width=4, channels=1, origin=0, image_step=8, row_step=3,
                    pixel_step=1, positions=8)  # fmt: skip


@pytest.mark.parametrize("seed", range(16))
def test_poolings(seed):
    """A maximum has no padding, an average divides by what is in its window."""
    rng = np.random.default_rng(seed)
    dimensions, kind = 1 + seed % 2, ("max", "pads", "pixels", "max")[seed // 2 % 4]
    size = rng.integers(5, 9, dimensions).tolist()
    kernel, stride = (rng.integers(1, 4, dimensions).tolist() for _ in range(2))
    dilation = rng.integers(1, 3, dimensions).tolist()
    pads = [int(rng.integers(0, n // 2 + 1)) for n in kernel]
    options = {"stride": stride, "padding": pads, "ceil_mode": seed % 3 == 0}
    images = integers(rng, (2, 5, *size)).astype(np.float64)
    layout = ImageLayout.make(2, size, 5, border=seed % 2)
    chip = CHIPS[("int8", "bf16")[seed % 4 // 2]]
    if kind == "max":
        function = (functional.max_pool1d, functional.max_pool2d)[dimensions - 1]
        options["dilation"] = dilation
        layer = max_pool(layout, kernel, border=1, **options)
        assert layer.nonnegative
        got = run(chip, layer, images, layout, out="dense,dense")
        assert np.array_equal(got, reference(function, images, kernel_size=kernel, **options))
        layer = max_pool(layout, kernel, **options)
        got = run(chip, layer, images, layout, out="dense,compressed")
    else:
        function = (functional.avg_pool1d, functional.avg_pool2d)[dimensions - 1]
        options["count_include_pad"] = kind == "pads"
        got = run(chip, avg_pool(layout, kernel, border=1, **options), images, layout)
    want = reference(function, images, kernel_size=kernel, **options)
    if chip is CHIPS["int8"] and kind != "max":
        assert np.abs(got - want).max() <= 0.5
    else:
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_poolings_that_do_not_fit():
    layout = ImageLayout.make(1, (4, 4), 3)
    for message, call in {
        "padding=2: a window of 2 has no pixel": lambda: max_pool(layout, 2, padding=2),
        "kernel of 5 x 5: expected up to 4 x 4": lambda: avg_pool(layout, 5),
        r"layout of \(1, 3, 3, 3\).*: expected \(1, 2, 2, 3\)":
            lambda: max_pool(layout, 2, to=ImageLayout.make(1, (3, 3), 3)),
        "bias: expected none": lambda: global_average(layout).assignment(Epilogue(bias=1)),
        r"scale of shape \(3,\): expected a number":
            lambda: avg_pool(layout, 3, stride=1, padding=1, count_include_pad=False).assignment(
                Epilogue(scale=[1, 2, 3])),
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


def narrow(values, dtype):
    """Return sums as the epilogue of the chains below makes them narrow."""
    values = torch.clamp(values, min=0)
    if dtype == "int8":
        return torch.clamp(torch.round(values / 4), max=127)
    return (values / 4).float().bfloat16().double()


@pytest.mark.parametrize("out", ["dense,dense", None])
@pytest.mark.parametrize("name", ["single/int8", "single/bf16", "shrunk/int8"])
def test_a_network_runs_in_one_start(name, out):
    """Each layer's result is in memory as the next one reads it, with zeros around it; a chip with
    few scanners stores the weights otherwise.
    """
    preset, dtype = name.split("/")
    rng = np.random.default_rng(5)
    shapes = [(6, 3, 3, 3), (8, 6, 5, 5), (8, 1, 3, 3), (10, 8, 1, 1)]
    options = [{"padding": 1}, {"padding": 2, "stride": 2}, {"padding": 1, "groups": 8}, {}]
    weights = [integers(rng, shape, 0.7) for shape in shapes]
    biases = [integers(rng, len(w)) for w in weights]
    layout = ImageLayout.make(2, (9, 10), 3, border=1, pitch=12, strides=2)
    layers, operands, before = [], {}, layout
    for n, (w, given, border) in enumerate(zip(weights, options, (2, 1, 0, 0), strict=True)):
        layer = convolution(before, w, border=border, image=f"h{n}", result=f"h{n + 1}", **given)
        layers.append(layer)
        before = layer.layout
    layers.append(max_pool(before, 2, stride=1, image="h4", result="h5"))
    layers.append(global_average(layers[-1].layout, image="h5", result="h6"))
    assert layers[-1].layout.shape == (2, 10)
    steps = [
        layer.assignment(Epilogue(bias=b, relu=True, scale=1 / 4, out="narrow"), out=out)
        for layer, b in zip(layers, biases, strict=False)
    ]
    steps += [layers[4].assignment(Epilogue(out="narrow"), out=out), layers[5].assignment()]
    for layer in layers:
        operands |= layer.operands
    images = integers(rng, (2, 3, 9, 10))
    chip = Chip(preset, dtype=dtype, backend="model", memory=MEMORY)
    program = loopnest.compile(steps, {"h0": layout.pack(images), **operands}, chip=chip)
    kernels = program.explain().steps
    assert len(find_chain(chip.config, kernels).steps) == len(kernels) == 6
    for given in (images, integers(rng, images.shape), images):
        x = torch.tensor(given, dtype=torch.float64)
        for w, bias, arguments in zip(weights, biases, options, strict=True):
            w, bias = (torch.tensor(a, dtype=torch.float64) for a in (w, bias))
            x = narrow(functional.conv2d(x, w, bias, **arguments), dtype)
        x = functional.max_pool2d(x, 2, stride=1)
        want = x.mean(dim=(2, 3)).numpy()
        got = dense(program.run(h0=layout.pack(given))["h6"])
        assert want.any() and got.shape == (2, 10)
        np.testing.assert_allclose(got, want, atol=0.5 * (dtype == "int8"), rtol=1e-6)


def test_large_images_are_estimated_from_samples(monkeypatch):
    """An estimate is of all of their entries, those of a result too."""
    rng = np.random.default_rng(6)
    layout = ImageLayout.make(1, (24, 24), 8, border=1)
    first = convolution(layout, integers(rng, (8, 8, 3, 3)), padding=1, border=1)
    second = convolution(first.layout, integers(rng, (8, 8, 3, 3), 0.3), padding=1, image="result",
                         result="last")  # fmt: skip
    images = layout.pack(integers(rng, (1, 8, 24, 24), 0.5))
    operands = {"image": images, **first.operands, **second.operands}
    steps = [layer.assignment(Epilogue(relu=True)) for layer in (first, second)]

    def expected():
        program = loopnest.compile(steps, operands, chip=CHIPS["bf16"])
        return np.array([[p.cycles, p.expected.multiplies] for p in program.explain().plans])

    every = expected()
    monkeypatch.setattr("loopnest.expression.view.MAX_NODES", 4000)
    monkeypatch.setattr("loopnest.expression.view.MAX_ENTRIES", 8000)
    monkeypatch.setattr("loopnest.program.predict.MAX_ENTRIES", 2000)
    some = expected()
    assert (some != every).any()
    np.testing.assert_allclose(some, every, rtol=0.2)
