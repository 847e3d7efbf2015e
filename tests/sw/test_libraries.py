"""Tensors of PyTorch, pydata/sparse and pandas: their numbers, and what contradicts itself."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue
from loopnest.formats.sources import as_array

CHIP = Chip(dtype="bf16", backend="model")
A = np.arange(24.0).reshape(4, 6) * (np.arange(24).reshape(4, 6) % 3 == 0)
X = np.arange(6.0)

pytestmark = pytest.mark.filterwarnings("ignore:Sparse .* tensor support:UserWarning")


def array(source) -> np.ndarray:
    found = as_array(source)
    return found.toarray() if sp.issparse(found) else found


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def sparse():
    return pytest.importorskip("sparse")


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas")


TORCH = {
    "csr": lambda t: t.to_sparse_csr(),
    "csc": lambda t: t.to_sparse_csc(),
    "bsr": lambda t: t.to_sparse_bsr((2, 3)),
    "bsc": lambda t: t.to_sparse_bsc((2, 3)),
    "coo": lambda t: t.to_sparse(),
    "coo with a gradient": lambda t: t.to_sparse().requires_grad_(),
    "dense with a gradient": lambda t: t.clone().requires_grad_(),
    "strided": lambda t: t.T.contiguous().T,
    "bfloat16": lambda t: t.bfloat16(),
    "bfloat16 bsr": lambda t: t.bfloat16().to_sparse_bsr((2, 2)),
    "half csr": lambda t: t.half().to_sparse_csr(),
}


@pytest.mark.parametrize("name", TORCH)
def test_torch(torch, name: str) -> None:
    tensor = TORCH[name](torch.tensor(A))
    np.testing.assert_array_equal(array(tensor), A)
    got = CHIP.compute("y[i] = A[i,j] * x[j]", A=tensor, x=torch.tensor(X))
    np.testing.assert_array_equal(got, A @ X)


def test_torch_values_that_are_lazy(torch) -> None:
    """PyTorch keeps a conjugation or a negation as a bit."""
    lazy = torch.complex(torch.zeros(3), torch.arange(3.0)).conj().imag
    assert lazy.is_neg()
    np.testing.assert_array_equal(array(lazy), [0, -1, -2])
    with pytest.raises(TypeError, match=r"^x: values of type complex64"):
        CHIP.compute("y[i] = x[i]", x=torch.complex(torch.ones(3), torch.ones(3)).conj())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda t, torch: t.to("meta"), TypeError, "on the device meta: expected one with numbers"),
        (lambda t, torch: t.to_sparse().to("meta"), TypeError, "on the device meta"),
        (lambda t, torch: torch.quantize_per_tensor(t.float(), 1.0, 0, torch.qint8), TypeError,
         r"quantized tensor \(torch.qint8\)"),
        (lambda t, torch: t.to_sparse(1), ValueError, "1 dense dimensions: expected none"),
        (lambda t, torch: torch.stack([t, t]).to_sparse_csr(), ValueError, "1 batch dimensions"),
        (lambda t, torch: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), TypeError,
         "nested tensor"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_torch_tensors_without_numbers(torch, make, error, message) -> None:
    with pytest.raises(error, match=f"^A: .*{message}"):
        CHIP.compute("y[i] = A[i,j]", A=make(torch.tensor(A), torch))


def test_a_parameter_as_bias(torch) -> None:
    """Numbers of an epilogue may need a gradient."""
    epilogue = Epilogue(
        bias=torch.nn.Parameter(torch.arange(4.0)[:, None]),
        scale=torch.tensor(2.0, requires_grad=True),
        threshold=torch.tensor(0.5),
        clamp=(torch.tensor(-1.0, requires_grad=True), None),
    )
    got = CHIP.matmul(torch.tensor(A), torch.tensor(A.T), epilogue=epilogue)
    np.testing.assert_array_equal(got, (A @ A.T + np.arange(4)[:, None]) * 2)
    with pytest.raises(TypeError, match=r"^bias: tensor on the device meta"):
        Epilogue(bias=torch.ones(2, device="meta"))


def test_lists_of_torch_numbers(torch) -> None:
    with pytest.raises(ValueError, match=r"^x: list: Can't call numpy\(\) on Tensor that requires"):
        CHIP.compute("y[i] = x[i]", x=[torch.tensor(1.0, requires_grad=True), 2])


def test_order_0(torch, sparse) -> None:
    numbers = [
        torch.tensor(2.0).to_sparse(),
        torch.sparse_coo_tensor(np.zeros((0, 2), int), torch.tensor([0.5, 1.5]), ()),
        torch.tensor(2.0, requires_grad=True),
        sparse.COO(np.diag([1.0, 1, 0])).sum(),
        sparse.GCXS.from_numpy(np.array(2.0)),
        np.float64(2),
    ]
    for number in numbers:
        assert array(number) == 2 and array(number).shape == ()
        got = CHIP.compute("y[i] = s * x[i]", s=number, x=X)
        np.testing.assert_array_equal(got, 2 * X)
    assert array(torch.tensor(0.0).to_sparse()) == 0


def test_gcxs_of_any_order_and_axes(sparse) -> None:
    cube = np.arange(120.0).reshape(2, 3, 4, 5) * (np.arange(120).reshape(2, 3, 4, 5) % 7 == 0)
    for count in (1, 2, 3):
        for axes in itertools.combinations(range(4), count):
            made = sparse.GCXS.from_numpy(cube, compressed_axes=axes)
            np.testing.assert_array_equal(array(made), cube)
            turned = made.transpose((3, 1, 0, 2))
            np.testing.assert_array_equal(array(turned), cube.transpose(3, 1, 0, 2))
    np.testing.assert_array_equal(array(sparse.GCXS.from_numpy(cube[0, 0, 0])), cube[0, 0, 0])


def sparse_frame(pandas, fill=0.0):
    columns = {f"c{k}": pandas.arrays.SparseArray(A[:, k], fill_value=fill) for k in range(6)}
    return pandas.DataFrame(columns)


def test_pandas(pandas) -> None:
    stored = sparse_frame(pandas)
    assert sp.issparse(as_array(stored)) and as_array(stored).nnz == np.count_nonzero(A)
    assert sp.issparse(as_array(stored["c3"])) and sp.issparse(as_array(stored["c3"].array))
    dense = pandas.DataFrame(A)
    for frame in (stored, dense, dense.astype("Int64"), dense.astype("float32")):
        np.testing.assert_array_equal(array(frame), A)
        got = CHIP.compute("y[i] = A[i,j] * x[j]", A=frame, x=X)
        np.testing.assert_array_equal(got, A @ X)
    np.testing.assert_array_equal(array(stored["c3"]), A[:, 3])
    np.testing.assert_array_equal(array(dense[3]), A[:, 3])
    mixed = pandas.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, 1]})
    np.testing.assert_array_equal(array(mixed), [[1, 1, 0.5], [2, 0, 1]])


def test_pandas_frames_that_are_no_matrix(pandas) -> None:
    stored, words = sparse_frame(pandas), pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    mixed = stored.copy()
    mixed["c2"] = A[:, 2]
    missing = pandas.DataFrame({"a": pandas.array([1, None], "Int64")})
    for frame, error, message in (
        (mixed, ValueError, "column 'c2' is dense, column 'c0' is sparse"),
        (sparse_frame(pandas, np.nan), ValueError, "column 'c0': fill value nan: expected 0"),
        (sparse_frame(pandas, 3.0)["c0"], ValueError, "fill value 3.0: expected 0"),
        (words, TypeError, "column 'b' of type .*: expected numbers"),
        (words["b"], TypeError, "of type .*: expected numbers"),
        (pandas.Timestamp("2020-01-01"), TypeError, "is Timestamp of object"),
        (missing, ValueError, "cannot convert|NA"),
    ):
        with pytest.raises(error, match=f"^A.*({message})"):
            CHIP.compute("y[i] = A[i,j]", A=frame)


LAYOUTS = ("csr", "csc", "bsr", "bsc")


def arrays(layout: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int], int]:
    """Return pointers, indices, values, shape of a matrix and its number of blocks along a fiber.

    Those of BSC are the transposed matrix' as BSR.
    """
    block = (2, 3) if layout in ("bsr", "bsc") else (1, 1)
    matrix = sp.random_array((24, 36), density=0.2, rng=2)
    if layout == "bsc":
        made = matrix.T.tobsr((block[1], block[0]))
        values = np.ascontiguousarray(made.data.transpose(0, 2, 1))
    else:
        made = matrix.tobsr(block) if layout == "bsr" else matrix.asformat(layout)
        values = made.data
    fibers = 36 // block[1] if layout in ("csr", "bsr") else 24 // block[0]
    return made.indptr.astype(np.int64), made.indices.astype(np.int64), values, (24, 36), fibers


def build(library: str, layout: str, indptr, indices, values, shape):
    """Return a library's array of these arrays, without the checks that it may have."""
    if library == "torch":
        torch = pytest.importorskip("torch")
        make = getattr(torch, f"sparse_{layout}_tensor")
        parts = (torch.from_numpy(part) for part in (indptr, indices, values))
        return make(*parts, shape, check_invariants=False)
    if library == "sparse":
        sparse = pytest.importorskip("sparse")
        axes = (0,) if layout == "csr" else (1,)
        made = sparse.GCXS.from_numpy(np.ones(shape), compressed_axes=axes)
        made.data, made.indices, made.indptr = values, indices, indptr
        return made
    matrix = getattr(sp, f"{layout}_array")(
        shape, **({"blocksize": (2, 3)} if layout == "bsr" else {})
    )
    matrix.indptr, matrix.indices, matrix.data = indptr, indices, values
    return matrix


EVERY_LAYOUT = [
    *[("torch", layout) for layout in LAYOUTS],
    *[("scipy", layout) for layout in LAYOUTS[:3]],
    *[("sparse", layout) for layout in LAYOUTS[:2]],
]


@pytest.mark.filterwarnings("error:.*non-integer dtype")
@pytest.mark.parametrize(("library", "layout"), EVERY_LAYOUT)
def test_sound_layouts(library: str, layout: str) -> None:
    """Also with unsorted indices, duplicates, and indices of other types."""
    indptr, indices, values, shape, _ = arrays(layout)
    expected = array(build(library, layout, indptr, indices, values, shape))
    assert np.count_nonzero(expected) == np.count_nonzero(values)
    first = slice(indptr[0], indptr[1])
    turned, with_values = indices.copy(), values.copy()
    turned[first], with_values[first] = turned[first][::-1], with_values[first][::-1]
    found = build(library, layout, indptr, turned, with_values, shape)
    got = CHIP.compute("B[i,j] = A[i,j]", A=found, out="dense,dense")
    plain = CHIP.compute("B[i,j] = A[i,j]", A=expected)
    np.testing.assert_array_equal(got, plain)
    doubled = indptr * 2
    twice = build(
        library, layout, doubled,
        np.concatenate([np.tile(indices[a:b], 2) for a, b in itertools.pairwise(indptr)]),
        np.concatenate([np.concatenate([values[a:b]] * 2) for a, b in itertools.pairwise(indptr)]),
        shape,
    )  # fmt: skip
    got = CHIP.compute("B[i,j] = A[i,j]", A=twice, out="dense,dense")
    np.testing.assert_array_equal(got, 2 * plain)
    for kind in ("i4", "u1", "u2", "u4", "u8"):
        if library != "torch" or kind == "i4":
            other = build(library, layout, indptr.astype(kind), indices.astype(kind), values, shape)
            np.testing.assert_array_equal(array(other), expected)


@pytest.mark.parametrize(("library", "layout"), EVERY_LAYOUT)
def test_layouts_with_one_wrong_number(library: str, layout: str) -> None:
    """60 of each kind, each refused with the operand's name."""
    rng = np.random.default_rng(3)
    for case in range(60):
        indptr, indices, values, shape, fibers = arrays(layout)
        if case % 2:
            at = int(rng.integers(len(indices)))
            indices[at] = rng.choice([-1, fibers, fibers + 7, 1 << 20, 1 << 40, -(1 << 40)])
        else:
            at = int(rng.integers(len(indptr)))
            # less than the pointer before, or more than the one behind
            below = indptr[at - 1] - 1 if at else -1
            above = indptr[at + 1] + 1 if at + 1 < len(indptr) else len(indices) + 1
            indptr[at] = rng.choice([below, above, 1 << 40, -(1 << 40)])
        broken = build(library, layout, indptr, indices, values, shape)
        with pytest.raises(ValueError, match=r"^A: "):
            CHIP.compute("y[i] = A[i,j] * x[j]", A=broken, x=np.ones(36))


@pytest.mark.parametrize(("library", "layout"), EVERY_LAYOUT)
def test_layouts_whose_arrays_differ_in_length(library: str, layout: str) -> None:
    for cut in range(3):
        indptr, indices, values, shape, _ = arrays(layout)
        parts = [indptr, indices, values]
        parts[cut] = np.ascontiguousarray(parts[cut][:-1])
        try:
            broken = build(library, layout, *parts, shape)
        except (RuntimeError, ValueError):
            continue  # the library refuses it itself
        with pytest.raises(ValueError, match=r"^A: "):
            CHIP.compute("y[i] = A[i,j] * x[j]", A=broken, x=np.ones(36))


def test_torch_coo_with_one_wrong_coordinate(torch) -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        coo = sp.random_array((24, 36), density=0.2, rng=rng).tocoo()
        at = np.array(coo.coords, np.int64)
        mode, entry = int(rng.integers(2)), int(rng.integers(coo.nnz))
        at[mode, entry] = rng.choice([-1, (24, 36)[mode], 1 << 40])
        broken = torch.sparse_coo_tensor(at, coo.data, (24, 36), check_invariants=False)
        with pytest.raises(ValueError, match=f"^A: coordinate .* of entry {entry} in mode {mode}"):
            CHIP.compute("y[i] = A[i,j] * x[j]", A=broken, x=np.ones(36))


def test_float_indices_are_refused(torch) -> None:
    indptr, indices, values, shape, _ = arrays("csr")
    for name, parts in (("indptr", (indptr * 1.0, indices)), ("indices", (indptr, indices * 1.0))):
        matrix = build("scipy", "csr", *parts, values, shape)
        with pytest.raises(
            TypeError, match=f"^A: {name} of type float64: expected an array of int"
        ):
            CHIP.compute("y[i] = A[i,j]", A=matrix)
    huge = indices.astype(np.uint64)
    huge[0] = (1 << 64) - 1
    with pytest.raises(ValueError, match=r"^A: indices of 18446744073709551615"):
        CHIP.compute("y[i] = A[i,j]", A=build("scipy", "csr", indptr, huge, values, shape))
