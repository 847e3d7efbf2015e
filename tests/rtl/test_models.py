"""Models on the RTL: bit for bit the golden model, with the host only where it has to be."""

import numpy as np

import loopnest
from tests.rtl.chips import Pair, on
from tests.sw.graph.models import starts
from tests.sw.graph.test_images import residual


@on("shrunk/int8", "single/bf16")
def test_a_network_of_images(pair: Pair) -> None:
    graph = residual(1)
    model = loopnest.compile(graph, chip=pair.model)
    on_rtl = model.on(pair.chip())
    assert starts(on_rtl) == 1
    for scale in (1, -1, 1):
        inputs = {name: scale * array for name, array in graph.inputs.items()}
        found, expected = on_rtl.run(**inputs), model.run(**inputs)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
        assert on_rtl.report.multiplies == model.report.multiplies
