"""Images for firmware: what is relocated, and what they hold."""

import os
import shlex
import struct
import subprocess

import numpy as np
import pytest

import loopnest
from loopnest import Chip
from loopnest.examples.firmware import FLAGS, SOURCES
from loopnest.graph.graph import Graph, Node
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


SHOW = r"""
#include <stdio.h>
#include "net.h"
static void show(const struct loopnest_host_tensor *tensor) {
    printf(" %s", tensor->name);
    for (unsigned m = 0; m < tensor->order; ++m) printf(" %u", (unsigned)tensor->shape[m]);
    if (tensor->elements) printf(" = %.9g", (double)tensor->elements[1]);
}
int main(void) {
    for (unsigned n = 0; n < sizeof net_steps / sizeof net_steps[0]; ++n) {
        const struct loopnest_step *step = &net_steps[n];
        if (step->image) { printf("image %u\n", (unsigned)step->image); continue; }
        show(&step->result);
        printf(" = %s %s of", step->operation, step->attributes);
        for (unsigned i = 0; i < step->input_count; ++i) show(&step->inputs[i]);
        printf("\n");
    }
    return 0;
}
"""


def names_in(image):
    """Return the names of an image's tensors."""
    data = image.read_bytes()
    words = struct.unpack(f"<{HEADER_WORDS}I", data[: 4 * HEADER_WORDS])
    first, nbytes = words[18:20]
    return set(data[first : first + nbytes].decode().split("\0")) - {""}


def test_a_table_of_the_steps_of_the_host(tmp_path):
    """What firmware has to compute between two images, with the names that these have."""
    rng = np.random.default_rng(1)
    g = np.float32([1, 1 / 3, 3, 2])
    nodes = (
        Node("h", "linear", ("x", "v")),
        Node("p", "softmax", ("h",), {"axis": -1}),
        Node("n", "layer_norm", ("p", "g", "g"), {"axes": [-1]}),
        Node("y", "linear", ("n", "w")),
    )
    x = rng.standard_normal((2, 3, 5)).astype(np.float32)
    weights = {"v": rng.standard_normal((4, 5)), "w": rng.standard_normal((6, 4)), "g": g}
    weights = {name: array.astype(np.float32) for name, array in weights.items()}
    chip = Chip(dtype="bf16", backend="model")
    program = loopnest.compile(Graph({"x": x}, weights, nodes, ("y",)), chip=chip)
    images = program.export(tmp_path / "net.bin")
    assert [image.name for image in images] == ["net-1.bin", "net-2.bin"]
    (tmp_path / "show.c").write_text(SHOW)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    made = [*compiler, *FLAGS, f"-I{SOURCES}", "-o", "show", "show.c"]
    subprocess.run(made, check=True, cwd=tmp_path)
    lines = subprocess.run(
        [tmp_path / "show"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    third = "= 0.333333343"
    assert lines == [
        "image 1",
        ' p 2 3 4 = softmax {"axis": -1} of h 2 3 4',
        f' n 2 3 4 = layer_norm {{"axes": [-1]}} of p 2 3 4 g 4 {third} g 4 {third}',
        "image 2",
    ]
    # each image has its tensors in the shape in which kernels read them
    assert names_in(images[0]) == {"x", "h"} and names_in(images[1]) == {"n", "y"}


def test_functions_of_python_are_no_firmware(tmp_path):
    x = np.ones((2, 3), np.float32)
    nodes = (Node("c", "call", ("x",), {"function": np.cbrt}), Node("y", "relu", ("c",)))
    program = loopnest.compile(Graph({"x": x}, {}, nodes, ("y",)), chip=INT8)
    with pytest.raises(ValueError, match=r"c = call.*: cbrt is computed by a library of Python"):
        program.export(tmp_path / "net.bin")
