"""Weights from files of safetensors and GGUF."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.frontends.weights import load_weights, unmasked

RNG = np.random.default_rng(4)


@pytest.fixture
def safetensors() -> Any:
    return pytest.importorskip("safetensors.numpy")


@pytest.fixture
def gguf() -> Any:
    return pytest.importorskip("gguf")


def masked(array: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Return what compressed-tensors stores of a tensor whose elements in a mask are kept."""
    counts = mask.sum(axis=-1).ravel()
    return {
        "compressed": array[mask],
        "bitmask": np.packbits(mask, axis=-1, bitorder="little"),
        "shape": np.array(array.shape),
        "row_offsets": np.cumsum(counts) - counts,
    }


def test_tensors_are_read_with_their_zeros(tmp_path: Path, safetensors: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    tensors = {
        "a.weight": RNG.standard_normal((3, 4)).astype(np.float32),
        "b": np.array([0, -1, 7], np.int8),
        "c": np.array([1.5, 0, -2]).astype(ml_dtypes.bfloat16),
    }
    tensors["a.weight"][1] = 0
    safetensors.save_file(tensors, tmp_path / "net.safetensors")
    found = load_weights(tmp_path / "net.safetensors")
    assert set(found) == set(tensors) and len(found) == 3
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    with pytest.raises(KeyError):
        found["none"]


def test_bitmasks_keep_their_pattern(tmp_path: Path, safetensors: Any) -> None:
    dense = RNG.standard_normal((5, 11)).astype(np.float32)
    mask = RNG.random((5, 11)) < 0.4
    mask[2] = False
    dense[0, mask[0]] = 0  # entries of 0 are entries
    pairs = np.tile([True, False, False, True], (6, 3))
    two = RNG.integers(-9, 9, (6, 12)).astype(np.float16)
    parts = {f"w.{part}": array for part, array in masked(dense, mask).items()}
    half = masked(two, pairs)
    parts |= {f"v.{part}": half[part] for part in ("bitmask", "shape")}
    parts |= {"v.compressed": half["compressed"].reshape(6, 6), "bias": dense[0]}
    safetensors.save_file(parts, tmp_path / "net.safetensors")
    found = load_weights(tmp_path / "net.safetensors")
    assert set(found) == {"w", "v", "bias"}
    w, v = found["w"], found["v"]
    assert sp.issparse(w) and w.format == "csr" and w.nnz == mask.sum()
    assert np.array_equal(w.toarray(), np.where(mask, dense, 0))
    w.data[:] = 1
    assert np.array_equal(w.toarray() != 0, mask)
    assert v.nnz == 36 and np.array_equal(v.toarray(), np.where(pairs, two, 0))


def test_bitmasks_of_other_ranks() -> None:
    for shape in ((13,), (2, 3, 5)):
        dense, mask = RNG.standard_normal(shape), RNG.random(shape) < 0.5
        parts = masked(dense, mask)
        found = unmasked(parts["compressed"], parts["bitmask"], shape)
        assert found.nnz == mask.sum() and np.array_equal(found.toarray(), np.where(mask, dense, 0))


@pytest.mark.parametrize(
    "part, array, message",
    [
        ("compressed", np.ones(3, np.float32), r"w: 3 values for a mask of 20: expected as many"),
        ("bitmask", np.zeros((4, 1), np.uint8), r"w: a mask uint8\(4, 1\) of \(4, 10\): .*4, 2"),
        ("shape", np.array([4, 99]), r"w: a mask uint8\(4, 2\) of \(4, 99\): expected .*4, 13"),
    ],
)
def test_parts_of_a_bitmask_have_to_fit(
    tmp_path: Path, safetensors: Any, part: str, array: np.ndarray, message: str
) -> None:
    mask = np.tile([True, False], (4, 5))
    parts = masked(RNG.standard_normal((4, 10)).astype(np.float32), mask) | {part: array}
    parts = {f"w.{name}": found for name, found in parts.items()}
    safetensors.save_file(parts, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=rf"net\.safetensors: {message}"):
        load_weights(tmp_path / "net.safetensors")["w"]


def test_an_index_lists_several_files(tmp_path: Path, safetensors: Any) -> None:
    a, b = np.ones(2, np.float32), np.zeros(3, np.float32)
    safetensors.save_file({"a": a}, tmp_path / "1.safetensors")
    safetensors.save_file({"b": b}, tmp_path / "2.safetensors")
    index = tmp_path / "net.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    found = load_weights(index)
    assert np.array_equal(found["a"], a) and np.array_equal(found["b"], b)
    (tmp_path / "2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.safetensors: no such file, which net"):
        load_weights(index)
    index.write_text("[]")
    with pytest.raises(ValueError, match="not an index of safetensors"):
        load_weights(index)


def test_quantised_tensors_of_gguf_are_numbers(tmp_path: Path, gguf: Any) -> None:
    path = tmp_path / "net.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    plain = RNG.standard_normal((4, 64)).astype(np.float32)
    q8 = gguf.quantize(plain, gguf.GGMLQuantizationType.Q8_0)
    q4 = gguf.quantize(plain, gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("plain", plain)
    writer.add_tensor("q8", q8, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q4", q4, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    whole = np.arange(6).reshape(2, 3)
    for kind in (np.int8, np.int32, np.float64):
        writer.add_tensor(np.dtype(kind).name, whole.astype(kind))
    blocks = {}
    for name in ("Q4_0", "Q4_K", "Q6_K", "BF16", "F16"):
        kind = gguf.GGMLQuantizationType[name]
        nbytes = 2 * gguf.GGML_QUANT_SIZES[kind][1] * (256 // gguf.GGML_QUANT_SIZES[kind][0])
        blocks[name] = RNG.integers(0, 60, nbytes, dtype=np.uint8).reshape(2, -1)
        writer.add_tensor(name, blocks[name], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = load_weights(path)
    assert list(found)[:3] == ["plain", "q8", "q4"]
    for kind in (np.int8, np.int32, np.float64):
        own = found[np.dtype(kind).name]
        assert own.dtype == kind and np.array_equal(own, whole)
    for name, data in blocks.items():
        kind = gguf.GGMLQuantizationType[name]
        assert found[name].shape == (2, 256) and found[name].dtype == np.float32
        assert np.array_equal(found[name], gguf.dequantize(data, kind)) and found[name].any()
    assert np.array_equal(found["plain"], plain)
    for name, within in (("q8", 0.02), ("q4", 0.3)):
        assert found[name].dtype == np.float32 and found[name].shape == (4, 64)
        assert 0 < np.abs(found[name] - plain).max() < within
    whole = path.read_bytes()
    for n in (0, 3, 20, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=r"net\.gguf: not a GGUF file, or a damaged one"):
            load_weights(path)


def test_damaged_files_are_refused(tmp_path: Path, safetensors: Any) -> None:
    path = tmp_path / "net.safetensors"
    whole = safetensors.save({"a": np.ones(100, np.float32)})
    for n in (0, 5, 30, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=r"net\.safetensors: not a file of safetensors"):
            load_weights(path)
    kind = b"F8_E4M3"
    header = b'{"a":{"dtype":"' + kind + b'","shape":[2],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with pytest.raises(ValueError, match=r"net\.safetensors: a: type F8_E4M3"):
        load_weights(path)["a"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.gguf: no such file"):
        load_weights(tmp_path / "none.gguf")
    (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"net\.bin: expected \.safetensors"):
        load_weights(tmp_path / "net.bin")


def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'loopnest\[safetensors\]'"):
        load_weights(tmp_path / "net.safetensors")
