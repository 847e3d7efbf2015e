"""Configuration, descriptor, registers, and what is generated from them."""

import json
import random
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from loopnest_hw.config import MAX_PES, PRESETS, ChipConfig, make_config
from loopnest_hw.definitions import c_header, definitions_json, member_docs, registers_markdown
from loopnest_hw.descriptor import (
    MAGIC,
    CellMode,
    descriptor_lines,
    kernel_fields,
    pack,
    places,
    unpack,
)
from loopnest_hw.format import LINE_WORDS
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.registers import (
    CACHE_COUNTERS,
    COUNTERS,
    OFFSETS,
    PE_COUNTERS,
    ErrorCode,
    configuration_word,
    counters,
    registers,
    snapshot_lines,
)

CONFIGS = [
    make_config(preset, dtype, **overrides)
    for preset, dtype, overrides in (
        *((preset, "bf16", {}) for preset in PRESETS),
        ("single", "int8", {"operands": 2, "rows": 2}),
        ("single", "bf16", {"rows": 6, "streams": 20}),
    )
]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rows": 1}, "rows=1: expected 2 to 6"),
        ({"operands": 4}, "operands=4: expected 2 or 3"),
        ({"multipliers": 3}, "multipliers=3: expected 1, 2, 4, 8 or 16"),
        ({"streams": 4}, "streams=4: expected at least operands + 2 = 5"),
        ({"pool_lines": 100}, "pool_lines=100: expected a power of two"),
        ({"pool_lines": 16}, "at least 2 for each of 12 streams"),
        ({"slots": 1}, "slots=1: expected 2 to 65536"),
        ({"fibers_in_flight": 3}, "fibers_in_flight=3: expected 1, 2, 4, 8 or 16"),
        ({"fifo_depth": 0}, "fifo_depth=0: expected 1 or more"),
        ({"reads_outstanding": 257}, "reads_outstanding=257: expected 1 to 256"),
        ({"colour": 3}, "config field 'colour': expected one of rows"),
    ],
)
def test_config_errors(overrides: dict[str, int], message: str) -> None:
    """A field out of its range is refused by name, with its value."""
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config("single", "bf16", **overrides)


@pytest.mark.parametrize("value", [8.0, True, "8", None])
def test_config_types(value: object) -> None:
    """Only integers are accepted; NumPy's become Python's, which do not overflow."""
    with pytest.raises(TypeError, match=f"slots={value!r}: expected an integer"):
        make_config("single", "bf16", slots=value)  # type: ignore[arg-type]
    slots = make_config("single", "bf16", slots=np.uint8(128)).slots  # type: ignore[arg-type]
    assert slots == 128 and type(slots) is int


def test_config_names() -> None:
    """Unknown presets and formats are refused; presets change fields that exist."""
    with pytest.raises(ValueError, match="preset 'huge': expected one of single"):
        make_config("huge")
    with pytest.raises(ValueError, match="dtype 'fp8': expected one of int8, bf16"):
        make_config("single", "fp8")
    with pytest.raises(ValueError, match="dtype='bf16'"):
        ChipConfig(dtype="bf16")  # type: ignore[arg-type]
    known = {field.name for field in fields(ChipConfig)}
    assert all(set(preset) <= known for preset in PRESETS.values())


@pytest.mark.parametrize("config", CONFIGS)
def test_places(config: ChipConfig) -> None:
    """Fields do not overlap, keep their order and stay within a word."""
    bits = np.zeros(descriptor_lines(config) * LINE_WORDS * 32, bool)
    previous = -1
    for place in places(config):
        start = place.word * 32 + place.shift
        assert start > previous and place.shift + place.field.bits <= 32
        assert not bits[start : start + place.field.bits].any()
        bits[start : start + place.field.bits] = True
        previous = start
    assert bits[-LINE_WORDS * 32 :].any(), "no line without a field"


@pytest.mark.parametrize("config", CONFIGS)
def test_pack(config: ChipConfig) -> None:
    """Packed values are unpacked unchanged; the magic is set; other fields are 0."""
    rng = random.Random(1)
    values = {f.path: rng.getrandbits(f.bits) for f in kernel_fields(config)}
    words = pack(config, values)
    assert words.shape == (descriptor_lines(config) * LINE_WORDS,) and words.dtype == np.uint32
    assert unpack(config, words) == values
    empty = unpack(config, pack(config, {}))
    assert empty.pop("magic") == MAGIC and not any(empty.values())


def test_pack_errors() -> None:
    """Values that do not fit and unknown fields are refused by name."""
    config = CONFIGS[0]
    with pytest.raises(ValueError, match=r"row.0.cell.1.mode=4: expected 2 bits"):
        pack(config, {"row.0.cell.1.mode": 4})
    with pytest.raises(ValueError, match=r"budget=-1: expected 32 bits"):
        pack(config, {"budget": -1})
    with pytest.raises(ValueError, match=r"'row.9.size': no such field in this chip"):
        pack(config, {"row.9.size": 1})


@pytest.mark.parametrize("config", CONFIGS)
def test_kernel_layout(config: ChipConfig) -> None:
    """The hardware's struct has every bit of every field."""
    assert kernel_layout(config).size == sum(field.bits for field in kernel_fields(config))


def test_registers() -> None:
    """Offsets are distinct words within the address space; every name is a C name. Every chip's
    registers have the offsets of the largest one's.
    """
    largest = registers(MAX_PES)
    assert len(set(OFFSETS.values())) == len(largest) == len(OFFSETS)
    assert all(offset % 4 == 0 and offset < 1 << 12 for offset in OFFSETS.values())
    assert all(register.name.isidentifier() for register in largest)
    assert OFFSETS["cycles"] == 0x100 and len(COUNTERS) > 20
    for pes in (1, 3):
        assert registers(pes) == largest[: len(registers(pes))]


def test_snapshot_lines() -> None:
    """Their number is that of the counters, of four each."""
    assert counters(1) == COUNTERS and [snapshot_lines(pes) for pes in (1, 4, 16)] == [7, 13, 25]
    assert counters(3)[len(COUNTERS) + len(CACHE_COUNTERS) + len(PE_COUNTERS)][0] == "pe1_leaf_busy"


def test_configuration_word() -> None:
    """The configuration register has the chip's parameters, one byte each."""
    assert configuration_word(make_config("single", "bf16")) == 0x01020403
    assert configuration_word(make_config("single", "int8", multipliers=16)) == 0x00040403


def test_json() -> None:
    """The JSON file has the parameters, and every register and field."""
    config = make_config("tiny", "int8")
    found = json.loads(definitions_json(config))
    assert found["parameters"]["slots"] == 128 and found["parameters"]["dtype"] == "int8"
    assert found["errors"]["BUDGET"] == ErrorCode.BUDGET
    assert found["enums"]["CellMode"]["SCAN"] == CellMode.SCAN
    assert {r["name"]: r["offset"] for r in found["registers"]}.items() <= OFFSETS.items()
    assert found["registers"][-1]["name"] == COUNTERS[-1][0]
    assert found["counters"]["names"][0] == "cycles"
    assert 0 <= 4 * found["counters"]["lines"] - len(COUNTERS) < 4
    assert len(found["descriptor"]["fields"]) == len(places(config))


def printed_by_c(folder: Path, config: ChipConfig, numbers: str) -> list[int]:
    """Return numbers, C expressions, as a C program sees them that includes the header."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    count = numbers.count(",") + 1
    (folder / "loopnest.h").write_text(c_header(config))
    (folder / "main.c").write_text(
        '#include <stdio.h>\n#include "loopnest.h"\n'
        "int main(void) {\n"
        f"    long numbers[] = {{{numbers}}};\n"
        f'    for (int n = 0; n < {count}; n++) printf("%ld ", numbers[n]);\n'
        "    return 0;\n}\n"
    )
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "main.c"]
    subprocess.run(command, cwd=folder, check=True)
    out = subprocess.run([folder / "a.out"], capture_output=True, text=True, check=True).stdout
    return list(map(int, out.split()))


def test_c_header(tmp_path: Path) -> None:
    """The header compiles, and a C program sees the same numbers."""
    config = make_config("single", "bf16")
    place = next(p for p in places(config) if p.field.path == "row.2.cell.1.step")
    field = "((struct loopnest_field)LOOPNEST_FIELD_ROW_2_CELL_1_STEP)"
    got = printed_by_c(
        tmp_path,
        config,
        f"{field}.word, {field}.shift, {field}.bits, LOOPNEST_REGISTER_CYCLES, "
        "LOOPNEST_ERROR_RESULT_FULL, LOOPNEST_CELL_MODE_SCAN, LOOPNEST_COUNTER_MULTIPLIES, "
        "LOOPNEST_SNAPSHOT_LINES",
    )
    assert got == [place.word, place.shift, 32, OFFSETS["cycles"], ErrorCode.RESULT_FULL, 2, 1, 7]


def test_c_header_of_several_pes(tmp_path: Path) -> None:
    """The places of each PE's counters are macros."""
    got = printed_by_c(
        tmp_path,
        make_config("small", "int8"),
        "LOOPNEST_REGISTER_PE_LAST_STEP(3), LOOPNEST_COUNTER_CACHE_MISSES, "
        "LOOPNEST_COUNTER_PE_LEAF_BUSY(2), LOOPNEST_SNAPSHOT_LINES",
    )
    names = [name for name, _ in counters(4)]
    expected = [OFFSETS["pe3_last_step"], names.index("cache_misses"), names.index("pe2_leaf_busy")]
    assert got == [*expected, 13]


def test_member_docs() -> None:
    """Every error code except NONE has a docstring with its meaning and its ``where``."""
    docs = member_docs(ErrorCode)
    assert set(docs) == {code.name for code in ErrorCode} - {"NONE"}
    assert all("where: " in doc for doc in docs.values())


def test_docs_are_current() -> None:
    """docs/registers.md equals the output of `python -m loopnest_hw.export --docs`."""
    page = Path(__file__).parents[2] / "docs" / "registers.md"
    assert page.read_text() == registers_markdown(make_config())
