"""Reading recorded waves."""

from pathlib import Path

import numpy as np
import pytest

import loopnest_sim.waves
from loopnest_sim.recording import Recording
from tests.sim.test_waves import record


@pytest.mark.parametrize("suffix", ["fst", "vcd"])
def test_signals(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter of cycles, in the recorded window: as numbers and as bits of words."""
    if suffix == "fst" and loopnest_sim.waves.trace_format() != "fst":
        pytest.skip("zlib's header is not installed")
    monkeypatch.setattr(loopnest_sim.waves, "trace_format", lambda: suffix)
    found = Recording(record((tmp_path / "copy", 100, 169)))
    assert (found.first, found.cycles, found.words) == (100, 70, 2)
    (scope,) = {s for s in found.scopes if s.split(".")[-1] == "copier"}
    clock = f"{scope}.clk"
    assert found.width(clock) == 1 and found.width(f"{scope}.missing") == 0
    name = next(n for n in ("scratch", "s_axil_rdata") if found.width(f"{scope}.{n}"))
    values = found.values(f"{scope}.{name}")
    assert len(values) == found.cycles
    words = np.stack(
        [found.bit(f"{scope}.{name}", n) for n in range(found.width(f"{scope}.{name}"))]
    )
    for cycle in (0, 1, 63, 64, 69):
        bits = words[:, cycle // 64] >> np.uint64(cycle % 64) & np.uint64(1)
        assert sum(int(bit) << n for n, bit in enumerate(bits)) == values[cycle]
