"""Images for firmware: what is relocated, and what they hold."""

import struct

import numpy as np
import pytest

import loopnest
from loopnest import Chip
from loopnest.program.firmware import HEADER_WORDS, is_address
from loopnest_hw.config import PRESETS, make_config
from loopnest_hw.descriptor import kernel_fields

INT8 = Chip(dtype="int8", backend="model")


@pytest.mark.parametrize("preset", PRESETS)
def test_all_addresses_of_descriptors_are_relocated(preset):
    for field in kernel_fields(make_config(preset)):
        assert is_address(field.path) is ("byte address" in field.doc), field.path
        assert field.bits == 32 or not is_address(field.path)


def test_the_same_bytes_from_a_loaded_program(tmp_path):
    """The header has the length and the expected cycles."""
    x = np.arange(9.0)
    program = loopnest.compile(["h[i] = 2 * x[i]", "y = h[i] * x[i]"], {"x": x}, chip=INT8)
    (one,) = program.export(tmp_path / "one.bin")
    program.save(tmp_path / "net.lnp")
    (two,) = loopnest.load(tmp_path / "net.lnp", chip=INT8).export(tmp_path / "two.bin")
    assert one.read_bytes() == two.read_bytes()
    header = struct.unpack(f"<{HEADER_WORDS}I", one.read_bytes()[: 4 * HEADER_WORDS])
    assert header[2] == one.stat().st_size
    assert header[8] == round(sum(program.expected.values()))
