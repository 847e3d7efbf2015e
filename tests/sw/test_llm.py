"""The example of a language model's block."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from loopnest.examples import checked, llm
from loopnest.graph.graph import Graph, Node

torch = pytest.importorskip("torch")

from loopnest.examples import smollm2  # noqa: E402

TINY = smollm2.Sizes(blocks=2, width=24, hidden=40, heads=6, shared=2, words=30)


class Drawn:
    """Drawn weights in place of a checkpoint."""

    sizes = TINY

    def __init__(self, *_):
        torch.manual_seed(1)
        self._network = smollm2.Network(TINY, 1)

    def embedding(self):
        return self._network.embedding.weight.detach()

    def block(self, number):
        return self._network.blocks[number].state_dict()

    def network(self):
        return self._network.state_dict()

    def tokenizer(self):
        return SimpleNamespace(encode=lambda text: SimpleNamespace(ids=[ord(c) % 30 for c in text]))


def steps(*, zeros=0.7, tokens=5):
    options = argparse.Namespace(tokens=tokens, zeros=zeros, prefill=True)
    return llm.read_steps(options, Drawn(), [3, 1, 4, 1, 5, 9])


def test_a_decode_step_is_the_last_token_of_a_prefill():
    found = steps()
    block, inputs = found["decode"]
    whole = smollm2.with_weights(smollm2.Block(TINY, 0, 6), block.state_dict())
    before = found["prefill"][1][0]
    expected = whole(torch.cat((before, inputs[0]), 1))
    torch.testing.assert_close(block(*inputs)[0], expected[0][:, -1:])
    torch.testing.assert_close(block(*inputs)[1], expected[1])
    shares = [(block.get_parameter(f"{n}.weight") == 0).float().mean() for n in ("gate", "keys")]
    assert np.allclose(shares, 0.7, atol=0.01)


@pytest.mark.parametrize("name", ["decode", "prefill"])
def test_on_the_golden_model(name):
    options = argparse.Namespace(
        backend="model", preset="single", latency=100, bytes_per_cycle=32, zeros=0.7, dense=False
    )
    run, _, figures = llm.run_step(options, Console(quiet=True), name, *steps()[name])
    assert not run.problems and figures["error"] < 0.02
    on_host = {row["operator"] for row in figures["placement"] if row["where"] == "host"}
    assert on_host - {"where"} == {"rms_norm", "silu", "softmax"}
    # results, and what is read for attention, the second normalisation and SiLU
    assert len(run.results) == 3 + 3


def test_differences_are_found(monkeypatch):
    """Another program than the golden model's differs in the last of what is compared."""
    run, calls = llm.Model.run, []

    def changed(self, **inputs):
        found = run(self, **inputs)
        calls.append(self)
        return (
            found if len(calls) == 1 else {**found, self.results[-1]: found[self.results[-1]] * 2}
        )

    monkeypatch.setattr(llm.Model, "run", changed)
    chip_of = checked.chip_of
    monkeypatch.setattr(
        checked, "chip_of", lambda options, dtype, _="": chip_of(options, dtype, "model")
    )
    options = argparse.Namespace(
        backend="rtl", preset="single", latency=100, bytes_per_cycle=32, zeros=0.7, dense=False
    )
    run, *_ = llm.run_step(options, Console(quiet=True), "decode", *steps()["decode"])
    last = run.program.results[-1]
    assert run.problems[0] == f"decode: {last} is not the golden model's"
    assert len(run.problems) == 1


def test_what_the_host_reads_is_an_output():
    nodes = (
        Node("y", "linear", ("x", "w")),
        Node("s", "silu", ("y",)),
        Node("z", "mul", ("s", "y")),
    )
    x = np.ones((1, 2), np.float32)
    graph = Graph({"x": x}, {"w": np.eye(2, dtype=np.float32)}, nodes, ("z",))
    assert llm.watched(graph).outputs == ("z", "y")


def test_perplexity():
    """That of a network to which all words are alike is their number."""
    alike = torch.nn.Sequential(torch.nn.Embedding(30, 30))
    torch.nn.init.zeros_(alike[0].weight)
    assert np.isclose(smollm2.perplexity(alike, list(range(16)), 8), 30)


def test_the_example(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(smollm2, "Checkpoint", Drawn)
    monkeypatch.setattr(llm, "find_file", lambda *_: "no file")
    monkeypatch.setattr(llm, "WINDOW", 8)
    options = ["--backend", "model", "--tokens", "5", "--perplexity", "--text-tokens", "16"]
    assert llm.main([*options, "--output", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "llm.json").read_text())
    linear = [row for row in figures["placement"] if row["operator"] == "linear"]
    assert len(linear) == 7 and all(0.69 < row["weight_zeros"] < 0.71 for row in linear)
    assert figures["error"] < 0.02 and not figures["problems"]
    assert figures["perplexity"]["text"] == llm.TEXT and figures["perplexity"]["tokens"] == 16
    assert all(found > 1 for found in figures["perplexity"]["of_zeros"].values())
    assert list(figures["perplexity"]["of_zeros"]) == ["0%", "50%", "70%"]
    assert (tmp_path / "llm.png").stat().st_size > 0
    for option, number, message in (
        ("--text-tokens", "17", "--text-tokens 17: expected a multiple of 8"),
        ("--text-tokens", "0", "--text-tokens 0: expected 1 or more"),
        ("--zeros", "1", "--zeros 1.0: expected 0 to less than 1"),
    ):
        with pytest.raises(SystemExit):
            llm.main([option, number])
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_network_of_the_package():
    pytest.importorskip("gguf")
    pytest.importorskip("tokenizers")
    try:
        path = llm.find_file(llm.PACKAGE, llm.FILE, llm.PROJECT)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    checkpoint = smollm2.Checkpoint(path, smollm2.Sizes())
    tokenizer = checkpoint.tokenizer()
    tokens = tokenizer.encode("The capital of France is").ids
    assert tokenizer.decode(tokens) == "The capital of France is"
    assert len(tokenizer.encode("2026").ids) == 4  # a token for each digit
    with torch.device("meta"):
        network = smollm2.Network(checkpoint.sizes, len(tokens))
    smollm2.with_weights(network, checkpoint.network())
    assert tokenizer.decode([network(torch.tensor([tokens]))[0, -1].argmax()]) == " Paris"


def test_without_the_package(monkeypatch, capsys):
    monkeypatch.setattr(llm, "PACKAGE", "no_such_package")
    with pytest.raises(SystemExit):
        llm.main(["--backend", "model"])
    assert "make models" in capsys.readouterr().err
