"""`make sim` on the golden model."""

import json

import numpy as np

from loopnest.examples import digits


def test_the_pruned_network_is_right(tmp_path, capsys):
    assert digits.main(["--backend", "model", "--output", str(tmp_path)]) == 0
    assert "pruned, golden model" in capsys.readouterr().out
    report = json.loads((tmp_path / "digits.json").read_text())
    assert report["problems"] == [] and (tmp_path / "digits.png").stat().st_size
    work = [(layer["multiplies"], layer["dense_multiplies"]) for layer in report["sparse"]]
    assert all(0 < done < 0.3 * possible for done, possible in work)
    assert report["multiplies"] == sum(done for done, _ in work)
    names = ("cycles", "roof_share", "pe_roof_share", "dense_cycles")
    assert [report[name] for name in names] == [None] * 4 and report["dense_measured"] is False


def test_figures_of_all_layers(tmp_path):
    """They are in the report and in the plot's title."""
    layers = [digits.LayerTotal(30, 400, 10, 100, 40.0, 80.0), digits.LayerTotal(3, 40, 1, 20)]
    layers[1].roof = layers[1].pe_roof = 4.0
    run = digits.NetworkRun(np.zeros((1, 10), np.int32), layers)
    dense = digits.NetworkRun(run.logits, [digits.LayerTotal(cycles=1000), layers[0]])
    assert digits._totals(run, dense) == {
        "multiplies": 33,
        "cycles": 120,
        "roof_share": 44 / 120,
        "pe_roof_share": 0.7,
        "dense_cycles": 1100,
        "dense_measured": True,
    }
    digits._plot(tmp_path / "plot.png", run, dense)
    assert (tmp_path / "plot.png").stat().st_size
