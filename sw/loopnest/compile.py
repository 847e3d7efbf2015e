"""Compiles statements and models to programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from .chip import Chip
from .graph.graph import Graph
from .graph.model import Model
from .program.program import Assignment, Program


def compile(
    source: str | Assignment | Sequence[str | Assignment] | Graph,
    inputs: Mapping[str, Any] | None = None,
    *,
    chip: Chip,
) -> Program:
    """Compile statements or a model to a program of a chip, without running anything on it.

    Parameters
    ----------
    source : str, Assignment, or a sequence of them; or Graph
        Statements in tensor index notation (`Chip.compute`), in the order in which they run; or the
        operators of a model.
    inputs : mapping of str to array
        The tensors that the statements have and do not compute, by name. Weights stay as they are;
        of others a run may give new ones, for which these are the examples that loops and levels
        are chosen for.
    chip : Chip

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
    if isinstance(source, Graph):
        return Model(chip.device, source)
    if isinstance(source, str | Assignment):
        source = [source]
    if not isinstance(source, Sequence) or not source:
        raise TypeError(f"{source!r}: expected a statement or a sequence of statements")
    assignments = []
    for given in source:
        if not isinstance(given, str | Assignment):
            raise TypeError(f"{given!r}: expected a statement or an Assignment")
        assignments.append(Assignment(statement=given) if isinstance(given, str) else given)
    if not isinstance(inputs or {}, Mapping):
        raise TypeError(f"inputs={inputs!r}: expected the operands by name")
    return Program(chip.device, assignments, inputs or {})
