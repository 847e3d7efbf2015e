"""The benchmarks on tiny matrices, on the golden model."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from loopnest import Chip, Memory
from loopnest.benchmarks import __main__ as command
from loopnest.benchmarks import (
    compiled,
    convolution,
    graphs,
    heavy,
    layer,
    plans,
    sizes,
    skipping,
    spread,
)
from loopnest.benchmarks.bounds import (
    AsFastest,
    AtShorter,
    Below,
    Fixed,
    OfCase,
    OfRoof,
    Unbounded,
)
from loopnest.benchmarks.cases import SAM, dense_case, product
from loopnest.benchmarks.matrices import load_matrix
from loopnest.benchmarks.outcome import run_cases, same
from loopnest.formats import panels


def save(folder, name, matrix):
    with gzip.open(folder / f"{name}.mtx.gz", "wb") as file:
        scipy.io.mmwrite(file, matrix)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(5)

    def matrix(rows, columns):
        return sp.random_array((rows, columns), density=0.2, rng=rng, format="coo")

    save(tmp_path, "square", matrix(30, 30))
    save(tmp_path, "wide", matrix(10, 40))
    save(tmp_path, "complex", matrix(12, 12) * 1j)
    save(tmp_path, "arrow", matrix(20, 20))
    for name, shape in zip(SAM, ((25, 10), (10, 25)), strict=True):
        save(tmp_path, name, matrix(*shape))
    return tmp_path


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_every_matrix_is_run_and_right(folder, dtype, capsys):
    output = folder / "out" / "benchmarks.json"
    names = ["square", "wide", "complex", "arrow", *SAM]
    options = ["--matrices", str(folder), "--backend", "model", "--dtype", dtype]
    assert command.main([*options, "--output", str(output), *names]) == 0
    runs = json.loads(output.read_text())["runs"]
    assert [run["name"] for run in runs] == [
        "SpMV arrow",
        "SpMM arrow",
        "SpMV complex",
        "SpMM complex",
        "SpGEMM complex",
        f"SpMV {SAM[0]}",
        f"SpMM {SAM[0]}",
        "SAM's pair",
        f"SpGEMM {SAM[0]}, {SAM[1]}",
        f"SpMV {SAM[1]}",
        f"SpMM {SAM[1]}",
        "SpMV square",
        "SpMM square",
        "SpGEMM square",
        "SpMV wide",
        "SpMM wide",
        "SpGEMM wide",
    ]
    assert all(run["right"] and run["pe_roof"] > 0 and run["cycles"] is None for run in runs)
    assert f"{len(runs)} kernels, 0 wrong" in capsys.readouterr().out


def test_values_are_small_integers_without_zero(folder):
    for name in ("square", "complex"):
        matrix = load_matrix(folder, name)
        assert set(np.abs(matrix.data)) <= set(range(1, 9))
        assert (matrix != load_matrix(folder, name)).nnz == 0


@pytest.mark.parametrize("pes", [1, 4])
def test_the_layer_keeps_what_it_says(monkeypatch, pes):
    monkeypatch.setattr(layer, "SIZE", 64)
    monkeypatch.setattr(layer, "BATCH", 3)
    cases = list(layer.layer_cases(4 * pes, shared=pes > 1))
    outcomes = list(run_cases(Chip(backend="model", pes=pes), cases))
    assert len(outcomes) == 12 and all(outcome.right for outcome in outcomes)
    work = [outcome.multiplies for outcome in outcomes]
    for one, batch in zip(work[6:], work[:6], strict=True):
        assert one in (4096, 3686, 2048, 128) or one < 300
        assert batch in (3 * 4096, 3 * 3686, 3 * 2048, 3 * 128) or batch < 900
    groups = layer.two_of_four(np.random.default_rng(1)).reshape(-1, 4)
    assert (groups.sum(axis=1) == 2).all() and len(np.unique(groups, axis=0)) == 6


def test_convolutions_are_right(monkeypatch):
    for name, size in {"SIDE": 5, "CHANNELS": 6, "FILTERS": 3}.items():
        monkeypatch.setattr(convolution, name, size)
    chip = Chip(backend="model")
    outcomes = list(run_cases(chip, convolution.convolution_cases(chip.config)))
    assert len(outcomes) == 8 and all(outcome.right for outcome in outcomes)
    assert outcomes[1].multiplies < 0.5 * outcomes[0].multiplies


def test_inner_products_of_long_and_short_are_right(monkeypatch):
    monkeypatch.setattr(skipping, "LONG", 500)
    outcomes = list(run_cases(Chip(backend="model"), skipping.skipping_cases()))
    assert len(outcomes) == 3 and all(outcome.right for outcome in outcomes)
    assert [outcome.multiplies for outcome in outcomes] == [10, 10, 500]


def test_heavy_rows_are_right(monkeypatch):
    monkeypatch.setattr(heavy, "SIZE", 16_000)
    chip = Chip(backend="model")
    for case, outcome in zip(
        heavy.heavy_cases(), run_cases(chip, heavy.heavy_cases()), strict=True
    ):
        assert outcome.right
        explained = chip.explain(case.statement, order=case.order, **case.operands)
        assert len(explained.plans) == 1 + ("whole" not in case.name)


def test_operands_of_several_panels(monkeypatch):
    monkeypatch.setattr(sizes, "SCALE", 1000)
    monkeypatch.setattr(panels, "PANEL", 1024)
    outcomes = list(run_cases(Chip(backend="model"), sizes.size_cases(sizes.SIZES)))
    assert [outcome.name for outcome in outcomes] == list(sizes.SIZES)
    assert all(outcome.right and outcome.met is None for outcome in outcomes)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_statements_of_several_kernels(dtype, monkeypatch):
    monkeypatch.setattr(plans, "SIDE", 60)
    outcomes = list(run_cases(Chip(dtype=dtype, backend="model"), plans.plan_cases()))
    assert len(outcomes) == 6 and all(outcome.right for outcome in outcomes)
    # the adapter takes 51,840 in one kernel
    assert all(outcome.multiplies < 32_000 for outcome in outcomes)


def test_spread_columns(folder, monkeypatch, capsys):
    monkeypatch.setattr(spread, "HYPER_SPARSE", 500)
    options = ["--matrices", str(folder), "--backend", "model", "--output", str(folder / "o.json")]
    assert command.main([*options, "spread", "square", "wide"]) == 0
    runs = json.loads((folder / "o.json").read_text())["runs"]
    names = ["spread square", "spread wide", "hyper-sparse 1,048,576^2"]
    assert [run["name"] for run in runs] == names and all(run["right"] for run in runs)
    A = load_matrix(folder, "square")
    B = spread.spread(A)
    assert B.shape == (30, 1 << 20) and (B.indices == A.indices * 34_952).all()
    with pytest.raises(SystemExit):
        command.main([*options, "spread", "dense"])
    assert "dense: expected names of matrices with spread" in capsys.readouterr().err


def test_the_orders_of_a_matrix(folder, capsys):
    options = ["--matrices", str(folder), "--backend", "model", "--output", str(folder / "o.json")]
    assert command.main([*options, "orders", "square", SAM[0]]) == 0
    names = [run["name"] for run in json.loads((folder / "o.json").read_text())["runs"]]
    assert len(names) == len(set(names)) and sum("picked" in name for name in names) == 4 + 6
    assert {"SpGEMM square, ikj", "SDDMM square, k of 10, jki", "SpMV square, ji"} <= set(names)


def test_the_orders_of_a_matrix_with_a_heavy_row(tmp_path, monkeypatch):
    """What is picked takes a second kernel, which adds the parts of the heavy row."""
    monkeypatch.setattr("loopnest.expression.virtual.MIN_WEIGHT", 100)
    matrix = sp.eye_array(200, format="lil")
    matrix[150] = 1
    save(tmp_path, "heavy", matrix.tocoo())
    options = ["--matrices", str(tmp_path), "--backend", "model", "--latency", "1"]
    output = tmp_path / "o.json"
    assert command.main([*options, "--set", "cache=1", "--output", str(output), "orders"]) == 0
    runs = json.loads(output.read_text())["runs"]
    assert all(run["right"] for run in runs)
    assert "SpMV heavy, picked: ij,iv" in [run["name"] for run in runs]


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_graphs(folder, dtype, capsys):
    output = folder / "g.json"
    options = ["--matrices", str(folder), "--backend", "model", "--output", str(output)]
    assert command.main([*options, "--dtype", dtype, "graphs", "square"]) == 0
    runs = json.loads(output.read_text())["runs"]
    names = [run["algorithm"] for run in runs]
    assert names == ["BFS", "SSSP", *["PageRank"] * (dtype == "bf16"), "triangles"]
    assert all(run["right"] and run["kernels"] > 0 for run in runs)
    assert "0 wrong" in capsys.readouterr().out


def test_graphs_that_are_wrong_or_not_there(folder, monkeypatch, capsys):
    monkeypatch.setattr(graphs, "count_triangles", lambda chip, edges: -1)
    options = ["--matrices", str(folder), "--backend", "model", "--output", str(folder / "o.json")]
    assert command.main([*options, "graphs", "square"]) == 1
    assert "WRONG" in capsys.readouterr().out
    assert command.main(["graphs", "--backend", "model"]) == 0
    assert "skipped without --matrices" in capsys.readouterr().out


def test_a_wrong_result_fails(folder, monkeypatch, capsys):
    def wrong(multipliers):
        return replace(dense_case(multipliers), expected=lambda: np.zeros((128, 128)))

    monkeypatch.setattr(command, "dense_case", wrong)
    options = ["--backend", "model", "--output", str(folder / "out.json"), "dense"]
    assert command.main(options) == 1
    assert "WRONG" in capsys.readouterr().out


def test_files_without_a_folder_are_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["square"])
    assert "square: expected --matrices FOLDER" in capsys.readouterr().err


def test_bounds():
    assert Fixed(8_500).cycles(4, 1, {}) == 8_500
    assert Fixed(8_500).cycles(100, 1, {}) == 11_050
    assert OfRoof(0.5).cycles(4, 100, {}) == 500
    assert OfRoof(0.5).cycles(100, 100, {}) == 1_650
    assert OfRoof(0.5).cycles(7, 100, {}) is None
    assert OfCase("dense", 0.5).cycles(4, 1, {"dense": 30}) == 15
    assert OfCase("dense", 0.5).cycles(4, 1, {}) is None
    assert OfCase("dense", 0.5).cycles(100, 1, {"dense": 30}) is None
    assert AtShorter(140).cycles(4, 10, {}) == 140 and AtShorter(140).cycles(100, 10, {}) is None
    assert Below(10).cycles(100, 1, {}) == 9 and Unbounded().cycles(4, 1, {}) is None
    fastest = AsFastest(("a", "b", "c"), 1.5)
    assert fastest.cycles(7, 1, {"a": 30, "b": 20, "d": 1}) == 30
    assert fastest.cycles(4, 1, {}) is None
    assert AsFastest(("a",), 1.5, limit=20).cycles(4, 1, {"a": 30}) == 19


def test_a_bound_is_met_or_not():
    case = product("p", sp.csr_array(np.eye(3)), sp.csr_array(np.eye(3)), Fixed(10))
    chip = Chip(backend="model", memory=Memory(latency=4))
    outcome = next(run_cases(chip, [case]))
    assert outcome.met is None and outcome.share is None
    assert replace(outcome, cycles=10).met is True
    assert replace(outcome, cycles=11).met is False


def test_results_are_compared_element_by_element():
    a = sp.csr_array(np.array([[0, 1], [2, 0]]))
    stored_zero = sp.csr_array((np.array([0, 1, 2]), ([0, 0, 1], [0, 1, 0])), shape=(2, 2))
    assert same(stored_zero, a) and same(a, a.toarray())
    assert not same(a, 2 * a) and not same(a, a.toarray() + 1) and not same(a, a[:1])


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_compiled_layers_multiply_what_is_kept(dtype):
    chip = Chip("single", dtype=dtype, backend="model")
    layers = list(compiled.run_layers(chip, size=32))
    assert [(inputs, name) for inputs, name, _, _ in layers] == [
        (inputs, name) for inputs in (64, 1) for name in compiled.PATTERNS
    ]
    assert layers[0][2].multiplies == 64 * 32 * 32
    kept = np.count_nonzero(compiled.layer_of(64, compiled.PATTERNS["2:4"], 32).constants["w"])
    # on an int8 chip the smallest weights are 0 as well
    assert (
        layers[1][2].multiplies == 64 * kept
        if dtype == "bf16"
        else layers[1][2].multiplies > 62 * kept
    )
    assert layers[3][3] < layers[2][3] < layers[1][3] < layers[0][3]


def test_short_kernels_are_replicated(folder, capsys):
    """Until their roof is long enough: its copies have a roof each, and the result is right."""
    output = folder / "benchmarks.json"
    options = ["--matrices", str(folder), "--backend", "model", "--output", str(output), "square"]
    assert command.main(options) == 0
    alone = json.loads(output.read_text())["runs"]
    assert command.main([*options, "--min-roof", "200"]) == 0
    runs = json.loads(output.read_text())["runs"]
    assert len(alone) == len(runs) == 3 and all(run["right"] for run in runs)
    for one, run in zip(alone, runs, strict=True):
        copies = -(-200 // one["pe_roof"])
        assert run["name"] == one["name"] + (f", {copies} times" if copies > 1 else "")
        assert run["pe_roof"] >= 200
    with pytest.raises(SystemExit):
        command.main([*options, "--min-roof", "-1"])
    assert "--min-roof -1: expected 0 or more" in capsys.readouterr().err
