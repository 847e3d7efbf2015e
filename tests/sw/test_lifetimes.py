"""Memory of a list's results, which is used again where nothing reads it any more."""

from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue
from loopnest.kernel.lifetimes import Block, overlay
from loopnest.program.start import Start
from loopnest_hw.config import LINE_BYTES
from loopnest_hw.registers import snapshot_lines

CHIPS = {dtype: Chip(dtype=dtype, backend="model") for dtype in ("int8", "bf16")}
RELU = Epilogue(scale=1 / 4, relu=True, out="narrow")
SIZE, LAYERS = 24, 8


@pytest.mark.parametrize("seed", range(30))
def test_blocks_that_are_needed_at_the_same_time_lie_apart(seed):
    rng = np.random.default_rng(seed)
    steps, blocks = 12, []
    for nbytes in rng.integers(0, 400, rng.integers(1, 25)):
        first, last = sorted(rng.integers(0, steps, 2))
        blocks.append(Block(int(nbytes), int(first), int(last)))
    offsets, nbytes = overlay(blocks)
    ends = [offset + block.nbytes for offset, block in zip(offsets, blocks, strict=True)]
    assert max(ends) <= nbytes and not any(offset % LINE_BYTES for offset in offsets)
    for a, b in combinations(range(len(blocks)), 2):
        if blocks[a].first <= blocks[b].last and blocks[b].first <= blocks[a].last:
            assert ends[a] <= offsets[b] or ends[b] <= offsets[a]
    lines = [-(-block.nbytes // LINE_BYTES) * LINE_BYTES for block in blocks]
    held = [
        sum(n for n, b in zip(lines, blocks, strict=True) if b.first <= step <= b.last)
        for step in range(steps)
    ]
    assert max(held) <= nbytes <= 1.5 * max(held)


def network(rng):
    """Return layers of which each reads the one before, some an earlier one too; the results are
    one in the middle and the last one.
    """
    layers = []
    for n in range(LAYERS):
        text = f"h{n + 1}[i,j] = W{n}[i,k] * h{n}[k,j]"
        compressed = "dense,compressed" if n % 3 == 1 else "dense,dense"
        layers.append(Assignment(statement=text, epilogue=RELU, out=compressed))
        if n == 4:
            layers.append(Assignment(statement="r[i,j] = h3[i,j] + h1[i,j]"))
    layers.append(Assignment(statement=f"y[i,j] = h{LAYERS}[i,j] + h2[i,j]"))
    weights = [rng.integers(-4, 5, (SIZE, SIZE)) * (rng.random((SIZE, SIZE)) < 0.4) for _ in layers]
    inputs = {f"W{n}": sp.csr_array(w.astype(float)) for n, w in enumerate(weights[:LAYERS])}
    return layers, {"h0": rng.integers(-4, 5, (SIZE, 16)).astype(float), **inputs}


def regions(kernel):
    """Return the first bytes and ends of what a kernel writes: the result, and the counters."""
    fields, found = kernel.fields, []
    for name in ("table", "blocks", "values"):
        if fields.get(f"result.{name}_end"):
            found.append((fields[f"result.{name}"], fields[f"result.{name}_end"]))
    return found, (fields["counters"], fields["counters"] + snapshot_lines(1) * LINE_BYTES)


def garbage(backend, image, rng):
    """Fill the memory of a golden model with anything, but what its image has written there."""
    memory = backend._memory
    kept = [(at, array) for at, array in image.constants]
    for region in image.regions:
        first = min(region.placed.addresses)
        kept.append((first, memory.read(first, region.placed.nbytes + 4 * LINE_BYTES)))
    memory.write(0, rng.integers(0, 256, image.end, np.uint8))
    for at, array in kept:
        memory.write(at, array)


@pytest.mark.parametrize("dtype", CHIPS)
def test_results_use_memory_again(dtype):
    """All runs are those of statements alone, whatever the memory holds before."""
    chip = CHIPS[dtype]
    rng = np.random.default_rng(5)
    layers, inputs = network(rng)
    program = loopnest.compile(layers, inputs, chip=chip)
    assert program.results == ("r", "y")
    (start,) = program.contents.stages
    assert isinstance(start, Start)
    image = start.image
    written = [regions(kernel) for kernel in image.kernels]
    names = [kernel.plan.statement.result.tensor for kernel in image.kernels]
    used = [{a.tensor for a in kernel.plan.statement.accesses} for kernel in image.kernels]

    def live(a, b):
        """Whether the result of a kernel is needed until a later one has written its own."""
        return names[a] in program.results or any(names[a] in own for own in used[b:])

    apart = [counters for _, counters in written]
    apart += [(at, at + array.nbytes) for at, array in image.constants]
    for region in image.regions:
        apart += [
            (at, at + n) for at, n in zip(region.placed.addresses, region.placed.sizes, strict=True)
        ]
    shared = 0
    for a, (own, _) in enumerate(written):
        assert all(x[1] <= y[0] or y[1] <= x[0] for x in own for y in apart)
        for b in range(a + 1, len(written)):
            meets = any(x[0] < y[1] and y[0] < x[1] for x in own for y in written[b][0])
            assert not (meets and live(a, b))
            shared += meets
    assert shared
    assert all(x[1] <= y[0] or y[1] <= x[0] for x, y in combinations(apart, 2))
    results = [at for own, _ in written for span in own for at in span]
    total = sum(end - first for own, _ in written for first, end in own)
    assert max(results) - min(results) < 0.7 * total

    backend = chip.device.shared.backend
    for x in (inputs["h0"], -inputs["h0"], inputs["h0"] * (rng.random((SIZE, 16)) < 0.3)):
        known = {**inputs, "h0": chip.tensor(x)}
        for layer in layers:
            own = {n: v for n, v in known.items() if n in layer.statement.split("=")[1]}
            name = layer.statement.split("[")[0]
            known[name] = chip.compute(
                layer.statement, epilogue=layer.epilogue, out=layer.out, **own
            )
        for _ in range(2):
            found = program.run(h0=x)
            for name, array in found.items():
                whole = array.toarray() if sp.issparse(array) else array
                assert np.array_equal(whole, known[name].to_dense())
            garbage(backend, image, rng)
            backend._image = image
