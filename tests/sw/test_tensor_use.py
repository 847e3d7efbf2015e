"""Tensors in use: number formats bound late, NumPy's protocol, and ``@``."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Tensor, set_default_chip, use_chip

BF16, INT8 = (Chip(dtype=dtype, backend="model") for dtype in ("bf16", "int8"))


@pytest.mark.parametrize("levels", [None, "dense,compressed", "compressed,compressed"])
@pytest.mark.parametrize("kind", [np.int8, np.int64, np.float32, np.float64, bool])
def test_a_tensor_without_a_format_works_on_all_chips(kind, levels):
    array = np.array([[0, 1, 0], [1, 0, 1]], kind)
    tensor = Tensor.from_dense(array, levels=levels)
    assert tensor.dtype is None and tensor.shape == (2, 3)
    assert tensor.nnz == (6 if levels is None else 3)
    assert np.array_equal(tensor.to_dense(), array) and np.array_equal(
        tensor.to_scipy().toarray(), array
    )
    for source in (tensor, pickle.loads(pickle.dumps(tensor)), tensor.convert("compressed,dense")):
        for chip, result in ((BF16, np.float32), (INT8, np.int32), (BF16, np.float32)):
            got = chip.matmul(source, source.T)
            assert isinstance(got, Tensor) and got.to_dense().dtype == result
            assert np.array_equal(got.to_dense(), array.astype(int) @ array.T.astype(int))
    assert tensor.dtype is None
    assert tensor.bound("int8") is tensor.bound("int8") and tensor.bound("int8").dtype is not None


def test_a_tensor_without_a_format_keeps_its_values_exactly():
    values = np.array([2**62 + 2**54 + 1, -300, 0, 7])
    tensor = Tensor.from_coo([np.arange(4)], values, (4,))
    assert tensor.to_dense().tolist() == values.tolist()
    assert tensor.bound("bf16").to_dense()[0] == 2.0**62 + 2.0**55
    assert "int64 values" in repr(tensor) and "int64 values, wide" in repr(
        Tensor.from_dense(values, wide=True)
    )
    with pytest.raises(ValueError, match=r"^A: value -300 at \(1\): expected an integer from -128"):
        INT8.matmul(Tensor.from_dense([0, -300, 5]), np.ones(3))
    with pytest.raises(ValueError, match=r"value -300 at \(1, 0\)"):
        Tensor.from_dense([[0, 0], [-300, 1]], levels="dense,compressed", mode_order=(1, 0)).bound(
            "int8"
        )
    with pytest.raises(ValueError, match="A is a bf16 tensor: expected int8"):
        INT8.matmul(Tensor.from_dense([1.0], dtype="bf16"), np.ones(1))
    with pytest.raises(TypeError, match=r"type uint16 .* expected one dimension of int64"):
        Tensor((1,), "dense", [None], np.zeros(1, np.uint16), dtype=None)


def test_the_warning_of_a_tensor_without_a_format_names_the_operand():
    huge = Tensor.from_dense([1.0, 4e38])
    with pytest.warns(RuntimeWarning, match=r"^x: value 4e\+38 at \(1\): beyond the range of bf16"):
        BF16.compute("y[i] = A[i,j] * x[j]", A=np.eye(2), x=huge)
    with pytest.warns(RuntimeWarning, match=r"^value 4e\+38 at \(1\): beyond the range of bf16"):
        Tensor.from_dense([1.0, 4e38]).bound("bf16")


def test_a_chip_packs_for_itself():
    array = np.array([[0, 1.0, 0], [2, 0, 3]])
    for source in (array, sp.csr_array(array), Tensor.from_dense(array), array.tolist()):
        tensor = INT8.tensor(source, levels="compressed,compressed")
        assert tensor.dtype is INT8.config.dtype and np.array_equal(tensor, array)
        assert tensor.levels == ("compressed", "compressed")
    assert INT8.tensor(Tensor.from_dense(array), mode_order=(1, 0)).mode_order == (1, 0)
    assert INT8.tensor(array).levels == ("dense", "dense")
    assert INT8.tensor(array, wide=True).wide
    with pytest.raises(ValueError, match="expected dtype="):
        INT8.tensor(BF16.tensor(array))
    with pytest.raises(ValueError, match="expected wide=True"):
        INT8.tensor(Tensor.from_dense(array), wide=True)
    with pytest.raises(ValueError, match=r"value 0.5 at \(0\)"):
        INT8.tensor([0.5])


def test_levels_that_are_chosen_stay():
    array = np.zeros((64, 64), np.int8)
    array[:, ::8] = 1
    ones = np.ones(64)
    expected = {True: 64 * 64, False: 64 * 8}
    for dense, tensor in (
        (False, Tensor.from_dense(array)),
        (False, Tensor.from_dense(array).T.T),
        (False, INT8.tensor(array)),
        (True, Tensor.from_dense(array, levels="dense,dense")),
        (True, INT8.tensor(array, levels="dense,dense")),
    ):
        result = INT8.matmul(tensor, ones)
        assert isinstance(result, Tensor) and result.levels == ("dense",)
        assert INT8.report.multiplies == expected[dense], tensor
        assert (INT8.report.stored == ()) == dense


def test_numpys_protocol():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensor = Tensor.from_dense(array, mode_order=(2, 0, 1), levels="dense,compressed,compressed")
    assert len(tensor) == 2 and tensor.ndim == 3 and tensor.T.shape == (4, 3, 2)
    assert np.array_equal(tensor.T, array.T) and np.array_equal(tensor.toarray(), array)
    assert tensor.T.arrays is tensor.arrays or tensor.T.arrays == tensor.arrays
    assert np.asarray(tensor, np.int16).dtype == np.int16 and np.array(tensor, copy=True).shape
    assert np.add(tensor, 1).shape == array.shape
    with pytest.raises(ValueError, match="copy=False"):
        np.array(tensor, copy=False)
    with pytest.raises(TypeError, match="order 0"):
        len(Tensor.from_dense(3.0))
    assert Tensor.from_dense(3.0) and not Tensor.from_dense([0])
    with pytest.raises(ValueError, match=r"truth of a tensor of shape \(2, 3, 4\)"):
        bool(tensor)


def test_the_operator_runs_on_the_default_chip():
    array = np.arange(6).reshape(2, 3)
    tensor = Tensor.from_dense(array)
    with pytest.raises(RuntimeError, match="no chip for @"):
        tensor @ tensor.T
    with pytest.raises(TypeError, match="str: expected a Chip"):
        set_default_chip("single")
    set_default_chip(BF16)
    try:
        with use_chip(INT8):
            assert np.array_equal(tensor @ tensor.T, array @ array.T)
            got = array @ tensor.T
            assert isinstance(got, Tensor) and np.array_equal(got, array @ array.T)
            assert (tensor @ tensor.T).dtype is INT8.config.dtype
            with ThreadPoolExecutor(1) as pool:  # a thread has a context of its own
                other = pool.submit(lambda: tensor @ tensor.T).result()
            assert other.dtype is BF16.config.dtype
        assert (tensor @ tensor.T).dtype is BF16.config.dtype
    finally:
        set_default_chip(None)


def test_products_of_other_libraries_run_on_the_chip():
    """``array @ tensor`` of every library is the chip's to compute, or a TypeError."""
    array = np.arange(12.0).reshape(3, 4)
    tensor = Tensor.from_dense(array, levels="dense,compressed")
    left = np.array([[1.0, 0, 2], [0, 3, 0]])
    sources = [left, left[0], left.tolist()]
    for name in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok"):
        sparse_array = sp.coo_array(left).asformat(name)
        sources += [sparse_array, sp.coo_matrix(left).asformat(name)]
    sources += [sp.coo_array(left[0]), *other_libraries(left)]
    chip = Chip(backend="model")
    with use_chip(chip):
        for source in sources:
            dense = left[0] if len(source_shape(source)) == 1 else left
            before = chip.report
            got = source @ tensor
            assert isinstance(got, Tensor) and chip.report is not before, type(source)
            assert np.array_equal(got, dense @ array), type(source)
        assert np.array_equal(sp.csr_array(left).dot(tensor), left @ array)
        frames = pytest.importorskip("pandas")
        for frame in (frames.DataFrame(left), frames.Series(left[0])):
            with pytest.raises(TypeError, match=r"^@ of pandas .* expected chip.matmul\(frame"):
                frame @ tensor
            assert isinstance(chip.matmul(frame, tensor), Tensor)
    for source in sources:
        with pytest.raises(RuntimeError, match="no chip for @"):
            source @ tensor
    # nothing but products is refused
    assert sp.csr_array(tensor).nnz == 11 and np.array_equal(np.vstack([tensor]), array)
    assert tensor.size == 12


def other_libraries(array):
    """Return the array as those of the libraries that are installed."""
    found = []
    with suppress(ImportError):
        import sparse

        found += [sparse.COO.from_numpy(array), sparse.GCXS.from_numpy(array)]
    with suppress(ImportError):
        import torch

        found += [torch.tensor(array), torch.tensor(array).to_sparse()]
    return found


def source_shape(source):
    return source.shape if hasattr(source, "shape") else np.shape(source)
