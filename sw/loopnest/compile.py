"""Compiles statements and models to programs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from .chip import Chip
from .graph.graph import Graph
from .graph.model import Model
from .program.program import Assignment, Program


def compile(
    source: Any,
    inputs: Any = None,
    *,
    chip: Chip,
    calibrate: Iterable[Any] | None = None,
) -> Program:
    """Compile statements or a model to a program of a chip, without running anything on it.

    Parameters
    ----------
    source : str, Assignment, or a sequence of them; or a model
        Statements in tensor index notation (`Chip.compute`), in the order in which they run. Or a
        model: a `torch.nn.Module`, a `torch.export.ExportedProgram`, the path of an ``.onnx`` file,
        or a `Graph`.
    inputs : mapping of str to array; tuple
        The tensors that the statements have and do not compute, by name. Weights stay as they are;
        of others a run may give new ones, for which these are the examples that loops and levels
        are chosen for. Of a model, examples: a tuple, or a mapping by name.
    chip : Chip
    calibrate : iterable of inputs, optional
        Of a model on an int8 chip: more examples, from which the scales of its activations are
        taken; each is a tuple, or a mapping by name.

    Returns
    -------
    Program

    Raises
    ------
    ValueError, TypeError
        If a statement is wrong or cannot be computed, or an input is missing or not used.
    """
    if not isinstance(chip, Chip):
        raise TypeError(f"chip={chip!r}: expected a Chip")
    if _is_of_torch(source):
        # PyTorch takes seconds to load, and the front end needs all of it
        from .frontends.torch import from_torch

        source, inputs = from_torch(source, inputs), None
    if isinstance(source, PathLike) or (isinstance(source, str) and source.endswith(".onnx")):
        from .frontends.onnx import from_onnx

        source = from_onnx(source, inputs)
    if isinstance(source, bytes | bytearray):
        raise TypeError(f"{len(source)} bytes: expected a statement, a model or a path")
    if calibrate is not None and not isinstance(calibrate, Iterable):
        raise TypeError(f"calibrate={calibrate!r}: expected a sequence of inputs")
    if isinstance(source, Graph):
        return Model(chip.device, source, calibrate=calibrate or ())
    if calibrate is not None:
        raise TypeError("calibrate: expected a model, since statements have numbers of the chip")
    if isinstance(source, str | Assignment):
        source = [source]
    if not isinstance(source, Sequence) or not source:
        raise TypeError(f"{source!r}: expected a statement or a sequence of statements")
    assignments = []
    for given in source:
        if not isinstance(given, str | Assignment):
            raise TypeError(f"{given!r}: expected a statement or an Assignment")
        assignments.append(Assignment(statement=given) if isinstance(given, str) else given)
    inputs = {} if inputs is None else inputs
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs={inputs!r}: expected the operands by name")
    return Program(chip.device, assignments, inputs)


def _is_of_torch(source: Any) -> bool:
    """Return whether it is a model of PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    # the module of exported programs is there once something is exported
    exported = getattr(sys.modules.get("torch.export"), "ExportedProgram", ())
    return isinstance(source, (torch.nn.Module, exported))
