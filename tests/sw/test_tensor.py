"""The format: exact round trips, and irregular inputs."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from loopnest import Tensor
from loopnest_hw.config import LANES
from tests.sw.tensors import arrays, shapes, sparse

KINDS = ("dense", "compressed")


@st.composite
def layouts(draw, order):
    levels = tuple(draw(st.sampled_from(KINDS)) for _ in range(order))
    return levels, draw(st.permutations(range(order)))


@given(st.data(), st.integers(1, 4), st.sampled_from(["bf16", "int8"]), st.booleans())
def test_round_trips(data, order, dtype, wide):
    shape = data.draw(shapes(order, most=40 if order < 3 else 7))
    array = data.draw(arrays(shape))
    levels, mode_order = data.draw(layouts(order))
    tensor = Tensor.from_dense(array, levels=levels, dtype=dtype, wide=wide, mode_order=mode_order)
    assert np.array_equal(tensor.to_dense(), array)
    assert np.array_equal(tensor.to_scipy().toarray(), array)
    assert tensor.to_scipy().nnz == np.count_nonzero(array)
    other, order_ = data.draw(layouts(order))
    converted = tensor.convert(other, order_)
    assert converted.levels == other and np.array_equal(converted.to_dense(), array)
    if order == 2:
        assert np.array_equal(Tensor.from_scipy(sparse(array)).to_dense(), array)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_mix_of_levels(order):
    rng = np.random.default_rng(1)
    array = rng.integers(-9, 9, (3, 18, 2, 5)[:order]) * (rng.random((3, 18, 2, 5)[:order]) < 0.4)
    for levels in itertools.product(KINDS, repeat=order):
        tensor = Tensor.from_dense(array, levels=levels)
        assert np.array_equal(tensor.to_dense(), array)


def test_layout_of_a_matrix():
    array = np.zeros((3, 40))
    array[0, [1, 17, 18]] = 1, 2, 3
    array[2, 39] = 4
    tensor = Tensor.from_dense(array, levels="dense,compressed", dtype="int8")
    level = tensor.arrays[1]
    assert level.table.tolist() == [0, 0, 2, 3, 2, 3, 3]
    assert [hex(w) for w in level.words] == ["0x2", hex(1 << 16 | 6), hex(2 << 16 | 1 << 7)]
    assert tensor.values.tolist() == [1, 2, 3, 4]


def test_children_of_a_level_above_dense_ones_are_prescaled():
    array = np.arange(1, 13).reshape(3, 4)
    tensor = Tensor.from_dense(array, levels="compressed,dense", dtype="int8")
    assert tensor.arrays[0].table.tolist() == [0, 0, 1]
    array = np.zeros((2, 3, 4))
    array[0, 1], array[1, 2] = 1, 2
    tensor = Tensor.from_dense(array, levels="dense,compressed,dense", dtype="int8")
    assert tensor.arrays[1].table.tolist() == [0, 0, 1, 4, 2]
    assert tensor.spans == [2, 1, 4, 1]


@given(st.data())
def test_positions_follow_the_rule(data):
    """Walk the levels coordinate by coordinate, as the chip does."""
    array = data.draw(arrays(data.draw(shapes(3, most=6))))
    levels, mode_order = data.draw(layouts(3))
    tensor = Tensor.from_dense(array, levels=levels, dtype="int8", mode_order=mode_order)
    expected = array.transpose(mode_order)

    def walk(level, position, index):
        if level == 3:
            assert tensor.values[position] == expected[index]
            return 1
        step = tensor.spans[level + 1]
        stored = tensor.arrays[level]
        if stored is None:
            size = tensor.sizes[level]
            return sum(walk(level + 1, position + c * step, (*index, c)) for c in range(size))
        first, child, end = (int(x) for x in stored.table[2 * position : 2 * position + 3])
        coordinates = [
            LANES * (int(word) >> 16) + bit
            for word in stored.words[first:end]
            for bit in range(LANES)
            if int(word) >> bit & 1
        ]
        return sum(
            walk(level + 1, child + k * step, (*index, c)) for k, c in enumerate(coordinates)
        )

    assert walk(0, 0, ()) == tensor.nnz


def messy():
    """A CSR matrix with a duplicate, an explicit zero and unsorted indices, in int64."""
    indices = np.array([4, 1, 4, 2, 0], np.int64)
    indptr = np.array([0, 3, 3, 5], np.int64)
    return sp.csr_array((np.array([1.0, 2, 3, 0, 5]), indices, indptr), shape=(3, 5))


def test_messy_csr():
    matrix = messy()
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    tensor = Tensor.from_scipy(matrix)
    assert tensor.nnz == 4
    back = tensor.to_scipy()
    assert back.nnz == 4 and np.array_equal(back.toarray(), messy().toarray())
    assert matrix.nnz == 5 and matrix.indices.tolist() == [4, 1, 4, 2, 0]


def test_duplicates_are_summed_before_rounding_and_range():
    coordinates = [np.array([0, 0]), np.array([1, 1])]
    tensor = Tensor.from_coo(coordinates, np.array([100, 27], np.int8), (1, 2), dtype="int8")
    assert tensor.values.tolist() == [127]
    tensor = Tensor.from_coo(coordinates, [1.0, 2.0**-8 + 2.0**-20], (1, 2), dtype="bf16")
    assert tensor.values.tolist() == [0x3F81]
    with pytest.raises(ValueError, match=r"value 200 at \(0, 1\)"):
        Tensor.from_coo(coordinates, [100, 100], (1, 2), dtype="int8")


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_scipy_formats(format):
    matrix = sp.random_array((20, 33), density=0.2, rng=np.random.default_rng(2), format=format)
    expected = matrix.toarray().astype(np.float32)
    got = Tensor.from_scipy(matrix, wide=True, dtype="bf16").to_dense()
    assert np.array_equal(got, expected)


def test_views_and_read_only_arrays():
    whole = np.arange(60.0).reshape(6, 10)
    whole.flags.writeable = False
    for view in (whole[::2, ::-3], whole.T, np.asfortranarray(whole), np.broadcast_to(1.0, (3, 4))):
        for levels in ("dense,dense", "compressed,compressed"):
            assert np.array_equal(Tensor.from_dense(view, levels=levels).to_dense(), view)


def test_zeros():
    array = np.array([0.0, -0.0, 1.0])
    assert Tensor.from_dense(array, levels="compressed").nnz == 1
    kept = Tensor.from_coo([np.arange(3)], array, (3,), dtype="bf16")
    assert kept.nnz == 3 and kept.values.tolist() == [0, 0x8000, 0x3F80]


def test_subnormals_flush_but_stay_stored():
    tensor = Tensor.from_dense([1e-40, -1e-40, 1.0], levels="compressed", dtype="bf16")
    assert tensor.nnz == 3 and tensor.values.tolist() == [0, 0x8000, 0x3F80]


def test_special_values():
    array = np.array([np.nan, np.inf, -np.inf, -np.nan])
    tensor = Tensor.from_dense(array, levels="compressed", dtype="bf16")
    assert tensor.values.tolist() == [0x7FC0, 0x7F80, 0xFF80, 0x7FC0]


@pytest.mark.parametrize("shape", [(0,), (0, 0), (0, 5), (5, 0), (2, 0, 3), (1, 1, 1, 0)])
def test_empty(shape):
    for levels in itertools.product(KINDS, repeat=len(shape)):
        tensor = Tensor.from_dense(np.zeros(shape), levels=levels)
        assert tensor.to_dense().shape == shape and tensor.to_scipy().nnz == 0


def test_a_million_nonzeros():
    rng = np.random.default_rng(3)
    columns = [rng.integers(0, 1 << 20, 1_000_000) for _ in range(2)]
    tensor = Tensor.from_coo(columns, np.ones(1_000_000), (1 << 20, 1 << 20))
    assert tensor.to_scipy().nnz == tensor.nnz


def test_errors_name_value_and_index():
    with pytest.raises(ValueError, match=r"value 0\.5 at \(1, 0\): expected an integer"):
        Tensor.from_dense([[1, 2], [0.5, 3]], dtype="int8", mode_order=(1, 0))
    with pytest.raises(ValueError, match=r"value 300 at \(1, 0\)"):
        Tensor.from_coo([[1, 0], [0, 1]], [300, 1], (2, 2), dtype="int8", mode_order=(1, 0))
    with pytest.raises(TypeError, match=r"complex128, first .*1j.* at \(1, 0\): expected real"):
        Tensor.from_scipy(sp.coo_array([[0, 0], [1j, 0]]))
    with pytest.raises(TypeError, match=r"complex128"):
        Tensor.from_dense(np.zeros((2, 2), complex))


def test_errors_of_shape_and_levels():
    with pytest.raises(ValueError, match=r"level 'sparse' in 'dense,sparse'"):
        Tensor.from_dense(np.zeros((2, 2)), levels="dense,sparse")
    with pytest.raises(ValueError, match=r"levels 'dense': expected 2"):
        Tensor.from_dense(np.zeros((2, 2)), levels="dense")
    with pytest.raises(ValueError, match=r"size 4294967297 in shape .*: expected 0 to 2\^32"):
        Tensor.from_coo([[0]], [1], ((1 << 32) + 1,))
    with pytest.raises(ValueError, match=r"coordinate 2 of entry 1 in mode 0: expected 0 to 1"):
        Tensor.from_coo([[0, 2]], [1, 1], (2,))
    with pytest.raises(ValueError, match=r"coordinate -1 of entry 0 in mode 0"):
        Tensor.from_coo([[-1]], [1], (2,))
    with pytest.raises(TypeError, match=r"coordinates of mode 0 of type float64"):
        Tensor.from_coo([[0.5]], [1], (2,))
    with pytest.raises(ValueError, match=r"mode order \(0, 0\): expected a permutation"):
        Tensor.from_dense(np.zeros((2, 2)), mode_order=(0, 0))
    with pytest.raises(ValueError, match=r"order 0 to 4"):
        Tensor.from_dense(np.zeros((1, 1, 1, 1, 1)))
    with pytest.raises(TypeError, match=r"list: expected a scipy\.sparse array"):
        Tensor.from_scipy([1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (2.7,)}, r"shape\[0\]=2.7: expected an integer"),
        ({"shape": "2"}, r"shape\[0\]='2': expected an integer"),
        ({"shape": (True,)}, r"shape\[0\]=True: expected an integer"),
        ({"shape": 2}, "shape=2: expected a sequence of integers"),
        ({"mode_order": (0.2,)}, r"mode_order\[0\]=0.2: expected an integer"),
        ({"mode_order": 0}, "mode_order=0: expected a sequence of integers"),
        ({"levels": 5}, "levels=5: expected a string or a sequence"),
        ({"arrays": 5}, "arrays=5: expected a CompressedLevel or None for each"),
        ({"wide": "no"}, "wide='no': expected True or False"),
    ],
)
def test_arguments_of_another_type(arguments, message):
    good = {"shape": (np.int32(2),), "levels": "dense", "arrays": [None], "mode_order": None}
    values = np.ones(2, np.int8)
    assert Tensor(values=values, dtype="int8", **good).shape == (2,)
    with pytest.raises(TypeError, match=message):
        Tensor(values=values, dtype="int8", **{**good, **arguments})


def test_coordinates_of_another_type():
    with pytest.raises(TypeError, match="coordinates=5: expected an array for each mode"):
        Tensor.from_coo(5, [1], (2,))


def test_tensors_larger_than_the_chips_memory():
    """They are refused before the host allocates them."""
    shape = (1 << 16, (1 << 16) - 1)
    message = r"of shape \(65536, 65535\) takes 8589803520 bytes: .*; use compressed levels"
    with pytest.raises(ValueError, match=f"a dense tensor {message}"):
        Tensor.from_dense(np.broadcast_to(1.0, shape))
    with pytest.raises(ValueError, match=f"levels dense,dense {message}"):
        Tensor.from_coo([[1], [1]], [1], shape, levels="dense,dense")


def test_masked_and_ragged_arrays():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    for make in (Tensor.from_dense, lambda a: Tensor.from_coo([[0, 1]], a, (2,))):
        with pytest.raises(ValueError, match="masked array with masked values: expected one"):
            make(masked)
        with pytest.raises(ValueError, match="list whose parts differ in shape: expected an"):
            make([[1], [2, 3]])
    assert Tensor.from_dense(np.ma.array([1.0, 2.0])).nnz == 2
