"""Views of tensors: a description changes, and the elements that it shows are those of NumPy."""

import numpy as np
import pytest

from loopnest.graph.values import Fixed, Value, blocks


def shown(value: Value, stored: np.ndarray) -> np.ndarray:
    """Return the elements that a value shows of what is stored."""
    sizes = [a.size if isinstance(a, Fixed) else value.stored(a) for a in value.axes]
    index = []
    for axis in value.axes:
        if isinstance(axis, Fixed):
            index.append(axis.at)
        else:
            first, step, _ = value.cuts.get(axis, (0, 1, 0))
            index.append(slice(first, first + (value.shape[axis] - 1) * step + 1, step))
    part = stored.reshape(sizes)[tuple(index)]
    there = [axis for axis in value.axes if not isinstance(axis, Fixed)]
    part = part.transpose(np.argsort(there)) if there else part
    shape = [size if axis in there else 1 for axis, size in enumerate(value.shape)]
    return np.broadcast_to(part.reshape(shape), value.shape)


def factors(rng, size, count):
    found = [1] * count
    while size > 1:
        prime = next(p for p in range(2, size + 1) if size % p == 0)
        found[rng.integers(count)] *= prime
        size //= prime
    return found


@pytest.mark.parametrize("seed", range(40))
def test_any_sequence_of_views(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(map(int, rng.choice([1, 2, 3, 4, 6], rng.integers(1, 4))))
    array = stored = np.arange(np.prod(shape)).reshape(shape)
    value, refused = Value.whole("x", shape), 0
    for _ in range(8):
        kind = rng.choice(["transpose", "cut", "reshape", "broadcast"])
        if kind == "transpose":
            axes = [int(a) for a in rng.permutation(array.ndim)]
            array, value = array.transpose(axes), value.transposed(axes)
        elif kind == "cut" and array.ndim:
            axis = int(rng.integers(array.ndim))
            start = int(rng.integers(array.shape[axis]))
            stop = int(rng.integers(start + 1, array.shape[axis] + 1))
            step = int(rng.integers(1, 3))
            array = array[(slice(None),) * axis + (slice(start, stop, step),)]
            value = value.cut(axis, start, stop, step)
        elif kind == "reshape":
            new = tuple(factors(rng, array.size, int(rng.integers(1, 5))))
            found = value.reshaped(new)
            refused += found is None
            if found is not None:
                array, value = array.reshape(new), found
        elif kind == "broadcast" and array.ndim < 4:
            new = (int(rng.integers(1, 3)), *array.shape)
            array, value = np.broadcast_to(array, new), value.broadcast(new)
        assert value.shape == array.shape
        assert np.array_equal(shown(value, stored), array), (seed, kind)
    assert refused < 8


def test_reshapes_that_move_nothing():
    heads = Value.whole("x", (2, 6, 16)).reshaped((2, 6, 4, 4)).transposed((0, 2, 1, 3))
    assert heads.axes == (0, 2, 1, 3)
    assert heads.reshaped((8, 6, 4)) is None
    assert heads.reshaped((2, 4, 1, 6, 4)).axes == (0, 3, 1, 4)
    assert heads.transposed((0, 2, 1, 3)).reshaped((12, 16)).plain
    assert heads.grouped([[0], [1], [2], [3]]) == [0, 2, 1, 3]
    assert heads.grouped([[0, 1], [2], [3]]) is None
    first = Value.whole("x", (3, 4, 8)).cut(1, 0, 1, 1).reshaped((3, 8))
    assert first.axes == (0, Fixed(0, 4), 1) and not first.plain


def test_blocks():
    assert blocks((2, 3, 4), (6, 4)) == [([0, 1], [0]), ([2], [1])]
    assert blocks((4, 1, 6), (2, 2, 6)) == [([0], [0, 1]), ([2], [2])]
    assert blocks((1,), ()) == []
