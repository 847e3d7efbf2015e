"""ONNX models as graphs."""

from .read import from_onnx

__all__ = ["from_onnx"]
