"""The steps of a program for firmware as a table in C: which image runs when, and what the host
computes between two of them.
"""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..expression.operand import Operand
from .chain import root
from .operation import HostOperation, whole
from .start import Stage, Start
from .steps import HostStep

MAX_ORDER = 8
"""`LOOPNEST_HOST_ORDER` of the driver."""

PER_LINE = 8


def operation_of(step: HostStep) -> HostOperation | None:
    """Return the operator that a step computes; None if it only rearranges a tensor."""
    own = getattr(getattr(step.apply, "func", None), "__self__", None)
    return own if isinstance(own, HostOperation) else None


def reshaped_inputs(stages: Sequence[Stage], inputs: Collection[Operand]) -> dict[Operand, Operand]:
    """Return the results of steps that only show an input in another shape, with that input: the
    order of its elements does not change.
    """
    found: dict[Operand, Operand] = {}
    for stage in stages:
        if isinstance(stage, HostStep):
            own, first = operation_of(stage), root(stage.operands[0])
            if own is not None and own.operator == "reshape" and first in {*inputs, *found}:
                found[stage.result] = found.get(first, first)
    return found


def check_steps(stages: Sequence[Stage]) -> None:
    """Check that firmware can do what the host does.

    Raises
    ------
    ValueError
        For an operator that only a library of Python computes; the message names it and its result.
    """
    for stage in stages:
        own = operation_of(stage) if isinstance(stage, HostStep) else None
        if own is not None and own.operator == "call":
            function = own.attributes["function"]
            name = getattr(function, "name", None) or getattr(function, "__name__", function)
            raise ValueError(
                f"{own}: {name} is computed by a library of Python: expected an operator that "
                f"firmware can compute (`python -m loopnest.operators` lists them)"
            )


def steps_header(name: str, stages: Sequence[Stage], inputs: Collection[Operand]) -> str:
    """Return a C header with the table of a program's steps, given what the plans know its inputs
    by.
    """
    prefix = re.sub(r"\W", "_", name)
    prefix = prefix if prefix[:1].isalpha() else f"net_{prefix}"
    shown = reshaped_inputs(stages, inputs)
    computed = {stage.result for stage in stages if not isinstance(stage, Start)}
    names: dict[Operand, str] = {}  # of constants
    tables: list[str] = []
    rows: list[str] = []
    image = 0
    for stage in stages:
        if isinstance(stage, Start):
            image += 1
            rows.append(f"    {{.image = {image}}},")
            continue
        assert isinstance(stage, HostStep)
        if stage.result in shown:
            continue
        own, tensors = operation_of(stage), []
        for operand in stage.operands:
            source, elements = root(operand), "0"
            if operand.known and source not in inputs and source not in computed:
                names.setdefault(operand, f"{prefix}_constant_{len(names)}")
                elements = names[operand]
            tensors.append(_tensor(shown.get(source, source).name, operand.shape, elements))
        table = f"{prefix}_inputs_{len(tables)}"
        joined = ",\n    ".join(tensors)
        tables.append(f"static const struct loopnest_host_tensor {table}[] = {{\n    {joined}}};\n")
        attributes = {} if own is None else dict(own.attributes)
        rows += [
            f"    {{.operation = {_string(stage.what if own is None else own.operator)},",
            f"     .attributes = {_string(json.dumps(attributes, default=_plain))},",
            f"     .inputs = {table}, .input_count = {len(tensors)},",
            f"     .result = {_tensor(stage.result.name, stage.result.shape, '0')}}},",
        ]
    guard = f"{prefix.upper()}_STEPS_H"
    return "\n".join(
        [
            f"/* The steps of {name}, in their order, as `Program.export` has written them. */",
            f"#ifndef {guard}\n#define {guard}\n",
            '#include <math.h>\n\n#include "loopnest_driver.h"\n',
            *(_array(own_name, whole(operand)) for operand, own_name in names.items()),
            *tables,
            f"static const struct loopnest_step {prefix}_steps[] = {{",
            *rows,
            "};\n",
            "#endif\n",
        ]
    )


def _string(text: str) -> str:
    """Return a string as C has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _tensor(name: str, shape: Sequence[int], elements: str) -> str:
    if len(shape) > MAX_ORDER:
        raise ValueError(f"{name}: shape {tuple(shape)}: expected up to {MAX_ORDER} axes")
    sizes = ", ".join(map(str, shape)) or "1"
    return f"{{{_string(name)}, {elements}, {len(shape)}, {{{sizes}}}}}"


def _array(name: str, array: NDArray[Any]) -> str:
    words = [_number(x) for x in np.asarray(array, np.float32).reshape(-1).tolist()] or ["0"]
    lines = [", ".join(words[n : n + PER_LINE]) for n in range(0, len(words), PER_LINE)]
    body = ",\n    ".join(lines)
    return f"static const float {name}[] = {{\n    {body}}};\n"


def _number(value: float) -> str:
    """Return a float32 number as C has it."""
    if not np.isfinite(value):
        return "NAN" if np.isnan(value) else "-INFINITY" if value < 0 else "INFINITY"
    return f"{value:.9g}f" if "." in f"{value:.9g}" or "e" in f"{value:.9g}" else f"{value:.0f}.0f"


def _plain(value: Any) -> Any:
    """Return an attribute that JSON does not have."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
