"""The chip's definitions outside Python: JSON, a C header and the docs' tables.

Everything here is generated from `registers`, `descriptor` and `config`. Same input, same bytes.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from enum import Enum, IntEnum
from itertools import pairwise
from typing import Any

from .config import PRESETS, ChipConfig
from .descriptor import (
    MAGIC,
    CellMode,
    LeafMode,
    Op,
    Output,
    Place,
    Reduction,
    ResultMode,
    descriptor_lines,
    kernel_fields,
    places,
)
from .registers import (
    CACHE_COUNTERS,
    CONTROL,
    COUNTERS,
    IDENTITY,
    OFFSETS,
    PE_COUNTERS,
    PE_SHIFT,
    SNAPSHOT_BYTES,
    ErrorCode,
    configuration_word,
    counters,
    pe_counter,
    registers,
    snapshot_lines,
)

FIELD_ENUMS: tuple[type[IntEnum], ...] = (
    CellMode,
    ResultMode,
    Op,
    Reduction,
    LeafMode,
    Output,
)
"""Enumerations whose values descriptor fields take."""


def member_docs(enum: type[IntEnum]) -> dict[str, str]:
    """Return the docstrings of an enumeration's members, each on one line.

    Raises
    ------
    ValueError
        If a member has none, except for the first (``NONE`` and the like).
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(enum))).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    for assignment, doc in pairwise(definition.body):
        if isinstance(assignment, ast.Assign) and isinstance(doc, ast.Expr):
            name = ast.unparse(assignment.targets[0])
            docs[name] = " ".join(ast.literal_eval(doc.value).split()).rstrip(".")
    for member in list(enum)[1:]:
        if member.name not in docs:
            raise ValueError(f"{enum.__name__}.{member.name}: expected a docstring")
    return docs


def definitions(config: ChipConfig) -> dict[str, Any]:
    """Return every definition of a chip as plain data, for JSON."""
    parameters = {
        name: value.value if isinstance(value, Enum) else value
        for name, value in asdict(config).items()
    }
    return {
        "parameters": parameters,
        "identity": IDENTITY,
        "configuration": configuration_word(config),
        "registers": [asdict(register) for register in registers(config.pes)],
        "counters": {
            "names": [name for name, _ in counters(config.pes)],
            "lines": snapshot_lines(config.pes),
        },
        "errors": {code.name: int(code) for code in ErrorCode},
        "enums": {enum.__name__: {e.name: int(e) for e in enum} for enum in FIELD_ENUMS},
        "descriptor": {
            "magic": MAGIC,
            "lines": descriptor_lines(config),
            "fields": [_field(place) for place in places(config)],
        },
    }


def _field(place: Place) -> dict[str, Any]:
    field = place.field
    return {
        "path": field.path,
        "word": place.word,
        "shift": place.shift,
        "bits": field.bits,
        "doc": field.doc,
    }


def definitions_json(config: ChipConfig) -> str:
    """Return the definitions as JSON."""
    return json.dumps(definitions(config), indent=2) + "\n"


def c_header(config: ChipConfig) -> str:
    """Return the definitions as a C header (C99).

    A descriptor field is an initializer ``{word, shift, bits}`` of ``struct loopnest_field``.
    """
    return "\n".join(_c_lines(config)) + "\n"


def _c_lines(config: ChipConfig) -> Iterator[str]:
    yield "/* Loopnest: registers, error codes and kernel descriptor. Generated: do not edit. */"
    yield "#ifndef LOOPNEST_H"
    yield "#define LOOPNEST_H"
    yield ""
    yield f"#define LOOPNEST_IDENTITY {IDENTITY:#010x}u"
    yield f"#define LOOPNEST_CONFIGURATION {configuration_word(config):#010x}u"
    yield f"#define LOOPNEST_PES {config.pes}u"
    yield f"#define LOOPNEST_DESCRIPTOR_MAGIC {MAGIC:#06x}u"
    yield f"#define LOOPNEST_DESCRIPTOR_LINES {descriptor_lines(config)}u"
    yield ""
    yield "/* byte offsets of the registers */"
    shared = len(COUNTERS) + (len(CACHE_COUNTERS) if config.pes > 1 else 0)
    for register in registers(config.pes)[: len(CONTROL) + shared]:
        yield f"/* {register.access}: {register.doc} */"
        yield f"#define LOOPNEST_REGISTER_{register.name.upper()} {register.offset:#05x}u"
    if config.pes > 1:
        yield from _c_of_pes("REGISTER", OFFSETS)
    yield ""
    yield "/* counters in memory: little endian, 8 bytes each, in this order */"
    yield f"#define LOOPNEST_SNAPSHOT_LINES {snapshot_lines(config.pes)}u"
    numbers = {name: number for number, (name, _) in enumerate(counters(config.pes))}
    for name in list(numbers)[:shared]:
        yield f"#define LOOPNEST_COUNTER_{name.upper()} {numbers[name]}u"
    if config.pes > 1:
        yield from _c_of_pes("COUNTER", numbers)
    yield ""
    yield "enum loopnest_error {"
    meaning = member_docs(ErrorCode)
    for code in ErrorCode:
        doc = f" /* {meaning[code.name]} */" if code.name in meaning else ""
        yield f"    LOOPNEST_ERROR_{code.name} = {int(code)},{doc}"
    yield "};"
    for enum in FIELD_ENUMS:
        name = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.__name__).upper()
        yield ""
        yield f"enum loopnest{name.lower()} {{"
        for member in enum:
            yield f"    LOOPNEST{name}_{member.name} = {int(member)},"
        yield "};"
    yield ""
    yield "/* a descriptor field: its 32-bit word, lowest bit and width */"
    yield "struct loopnest_field {"
    yield "    unsigned char word, shift, bits;"
    yield "};"
    for place in places(config):
        name = place.field.path.upper().replace(".", "_")
        yield f"/* {place.field.doc} */"
        yield f"#define LOOPNEST_FIELD_{name} {{{place.word}, {place.shift}, {place.field.bits}}}"
    yield ""
    yield "#endif"


def _c_of_pes(what: str, places: Mapping[str, int]) -> Iterator[str]:
    """Yield the places of each PE's counters, as macros of the PE's number."""
    for name, doc in PE_COUNTERS:
        first, second = (places[pe_counter(pe, name)] for pe in range(2))
        yield f"/* each PE's: {doc} */"
        yield (
            f"#define LOOPNEST_{what}_PE_{name.upper()}(pe) ({first}u + {second - first}u * (pe))"
        )


def registers_markdown(config: ChipConfig) -> str:
    """Return the page of tables: registers, error codes and descriptor."""
    return "\n".join(_markdown_lines(config)) + "\n"


def _more_counters() -> Iterator[str]:
    """Yield the section on the counters of a chip of several PEs."""
    yield "The counters of several PEs are added: a stage that is busy in four PEs counts four"
    yield "cycles in each. A chip of several PEs has further counters: its cache's, and those of"
    yield "each PE by itself, which have 32 bits in memory too. `last_step` is a time, not a number"
    yield "of events: of a kernel in a list, subtract the `cycles` of the kernel before."
    yield ""
    yield "| offset | name | access | meaning |"
    yield "|---|---|---|---|"
    named = {register.name: register for register in registers(2)}
    for name, _ in CACHE_COUNTERS:
        yield f"| {named[name].offset:#05x} | `{name}` | r | {named[name].doc} |"
    for name, doc in PE_COUNTERS:
        first, second = (named[pe_counter(pe, name)].offset for pe in range(2))
        place = f"{first:#05x} + {second - first:#x} N"
        yield f"| {place} | `{pe_counter('N', name)}` | r | of PE N: {doc} |"
    yield ""
    small, large = (snapshot_lines(PRESETS[name]["pes"]) for name in ("small", "large"))
    yield f"In memory they follow the others: {small} lines in all on `small`, {large} on `large`."


def _markdown_lines(config: ChipConfig) -> Iterator[str]:
    yield "# Registers and kernel descriptor"
    yield ""
    yield "Generated by `python -m loopnest_hw.export --docs`: do not edit. The definitions are"
    yield "`hw/loopnest_hw/registers.py` and `hw/loopnest_hw/descriptor.py`."
    yield ""
    yield "## Registers"
    yield ""
    yield "AXI4-Lite, 32 bits each. A read of any other offset gives 0 and SLVERR; a write of an"
    yield "offset that is not writable does nothing and gives SLVERR."
    yield ""
    yield "| offset | name | access | meaning |"
    yield "|---|---|---|---|"
    for register in registers(config.pes):
        yield (
            f"| {register.offset:#05x} | `{register.name}` | {register.access} | {register.doc} |"
        )
    yield ""
    yield f"`identity` is {IDENTITY:#010x}. A start while the chip is busy does nothing. A soft"
    yield "reset ends the run once what is in flight on the memory bus has completed; then `busy`"
    yield "falls, and `done` and the error are cleared."
    yield ""
    count, lines = len(counters(config.pes)), snapshot_lines(config.pes)
    yield f"Where a descriptor's `counters` is not 0, all {count} counters are written to"
    yield f"the {lines} lines from there on when its kernel is done, in the order of their"
    yield f"registers: {SNAPSHOT_BYTES} bytes each, little endian"
    yield "([what they cover](architecture.md#lists-of-kernels))."
    yield ""
    yield from _more_counters()
    yield ""
    yield "## Error codes"
    yield ""
    yield "Of an error that one of several PEs finds, `error_where` has the PE's number from bit"
    yield f"{PE_SHIFT} on, but for `READ_ERROR` and for row 0's errors, which the dispatcher finds."
    yield ""
    yield "| code | name | meaning |"
    yield "|---|---|---|"
    meaning = member_docs(ErrorCode)
    for code in ErrorCode:
        yield f"| {int(code)} | `{code.name}` | {meaning.get(code.name, 'no error')} |"
    yield ""
    yield "## Kernel descriptor"
    yield ""
    lines = descriptor_lines(config)
    yield f"A list of kernels is an array of descriptors of {lines} lines (32 bytes each), aligned"
    yield "to a line; `last` marks the last one. These are the fields of the default chip; their"
    yield "places depend on the chip's parameters: `loopnest.json` and `loopnest.h`, exported with"
    yield "the Verilog, have those of the exported chip."
    yield ""
    yield "| word | bits | field | meaning |"
    yield "|---|---|---|---|"
    for place in places(config):
        field, low = place.field, place.shift
        bits = str(low) if field.bits == 1 else f"{low + field.bits - 1}:{low}"
        yield f"| {place.word} | {bits} | `{field.path}` | {field.doc} |"
    yield ""
    for chip, prefix, before, anchor in (
        ("with a cache", "prefetch.", "counters", "prefetching"),
        ("of several PEs", "share.", "result.values_end", "sharing-out-the-rows"),
    ):
        yield f"A chip {chip} has further fields behind `{before}`"
        yield f"([what they mean](architecture.md#{anchor})):"
        yield ""
        yield "| bits | field | meaning |"
        yield "|---|---|---|"
        for field in kernel_fields(replace(config, pes=2)):
            if field.path.startswith(prefix):
                yield f"| {field.bits} | `{field.path}` | {field.doc} |"
        yield ""
    for number, enum in enumerate(FIELD_ENUMS):
        if number:
            yield ""
        yield f"{enum.__name__}: " + ", ".join(f"{int(e)} `{e.name}`" for e in enum) + "."
