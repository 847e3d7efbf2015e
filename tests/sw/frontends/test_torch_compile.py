"""`loopnest.compile` of modules, and `torch.compile` with the backend."""

import doctest
import tomllib
import warnings
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import loopnest  # noqa: E402
from loopnest.frontends.torch.backend import WARNED  # noqa: E402
from loopnest.frontends.torch.backend import loopnest as backend  # noqa: E402

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.fixture(scope="module")
def chip() -> loopnest.Chip:
    return loopnest.Chip(dtype="bf16", backend="model")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.manual_seed(3)
    torch.compiler.reset()
    WARNED.clear()


def close(found: Any, wanted: Any) -> None:
    """Check results of a bf16 chip: 8 bits of the inputs, with the largest result as the unit."""
    found, wanted = np.asarray(found.detach()), np.asarray(wanted.detach())
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=2e-2 * np.abs(wanted).max())


def compiled(
    model: Any, chip: loopnest.Chip, options: dict[str, Any] | None = None
) -> tuple[Callable[..., Any], list[Any]]:
    """Return a model compiled with the backend, and the list of its programs."""
    programs: list[Any] = []
    options = {"chip": chip, "programs": programs} | (options or {})
    return torch.compile(model, backend=backend, options=options), programs


def test_modules_are_compiled_to_programs(chip: loopnest.Chip) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x = torch.randn(4, 8)
    program = loopnest.compile(model, (x,), chip=chip)
    close(torch.from_numpy(program(x.numpy())), model(x))
    assert [p.where for p in program.placement] == ["chip"] * 3
    exported = loopnest.compile(torch.export.export(model, (x,)), chip=chip)
    np.testing.assert_array_equal(exported(-x.numpy()), program(-x.numpy()))


def test_circular_padding() -> None:
    """What PyTorch leaves empty, and fills afterwards, is in no scale."""
    model, x = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), torch.randn(2, 3, 6, 6)
    for _ in range(3):
        program = loopnest.compile(model, (x,), chip=loopnest.Chip(dtype="int8", backend="model"))
        close(torch.from_numpy(program(x.numpy())), model(x))


def test_documentation() -> None:
    """The examples of docs/models.md work as shown."""
    result = doctest.testfile(str(PROJECT.parent / "docs" / "models.md"), module_relative=False)
    assert result.attempted >= 8 and result.failed == 0


def test_backend_is_registered() -> None:
    points = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]
    ((name, value),) = points["torch_dynamo_backends"].items()
    point = EntryPoint(name, value, "torch_dynamo_backends")
    assert name == "loopnest" and point.load() is backend


@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_that_pytorch_computes_in_one_operator(
    chip: loopnest.Chip, norm_first: bool
) -> None:
    """Without gradients, an encoder layer; its masks: one or both."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=norm_first).eval()
    x, padding = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    ahead = torch.triu(torch.ones(5, 5), 1).bool()
    both = {"src_key_padding_mask": padding, "src_mask": ahead}
    for masks in ({}, both) if norm_first else ({"src_mask": ahead}, {**both, "src_mask": None}):
        run, programs = compiled(layer, chip)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            close(run(x, **masks), layer(x, **masks))
        on_chip = [p.node.operator for p in programs[0].placement if p.where == "chip"]
        assert on_chip.count("linear") == 4 and on_chip.count("matmul") == 2


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.head = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x).mean(1)), x.shape[1]


def test_backend_runs_on_the_chip_and_says_what_does_not(chip: loopnest.Chip) -> None:
    model, x = Encoder().eval(), torch.randn(2, 5, 16)
    run, programs = compiled(model, chip)
    with pytest.warns(
        UserWarning, match=r"the host computes gelu, layer_norm \(2 times\), softmax"
    ):
        found, length = run(x)
    close(found, model(x)[0])
    assert length == 5 and not found.requires_grad
    (program,) = programs
    assert {p.node.operator for p in program.placement if p.where == "chip"} >= {"linear", "matmul"}
    assert "layer.self_attn (aten.linear)" in [p.node.origin for p in program.placement]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(run(x[:1])[0], model(x[:1])[0])  # another shape is another program
        close(run(x)[0], model(x)[0])
    assert len(programs) == 2


def test_weights_that_change_are_read_again(chip: loopnest.Chip) -> None:
    model, x = nn.Linear(8, 4), torch.randn(2, 8)
    run, programs = compiled(model, chip)
    close(run(x), model(x))
    close(run(2 * x), model(2 * x))
    assert len(programs) == 1
    model.weight.data *= -1  # PyTorch does not count this as a new version
    close(run(x), model(x))
    with torch.no_grad():
        model.bias.add_(3)
    close(run(x), model(x))
    assert len(programs) == 3


weight = torch.ones(3, 2)


def test_functions(chip: loopnest.Chip) -> None:
    model = nn.Linear(2, 2)

    def function(x: Any, y: Any = None) -> Any:
        return {"product": model(x @ weight), "same": x, "none": y, "sum": (x + 1).sum()}

    run, programs = compiled(function, chip)
    x = torch.randn(2, 3)
    found = run(x)
    close(found["product"], model(x @ weight))
    close(found["sum"], (x + 1).sum())
    assert found["same"] is x and found["none"] is None
    assert len(programs) == 1 and list(programs[0].inputs) == ["inputs_0"]


def test_half_precision(chip: loopnest.Chip) -> None:
    model, x = nn.Linear(8, 4).bfloat16(), torch.randn(2, 8).bfloat16()
    run, _ = compiled(model, chip)
    found = run(x)
    assert found.dtype == torch.bfloat16
    close(found.float(), model(x).float())


def test_default_chip(chip: loopnest.Chip) -> None:
    model, x = nn.Linear(4, 4), torch.randn(2, 4)
    with pytest.raises(Exception, match=r"no chip for torch.compile\(backend=\"loopnest\"\)"):
        torch.compile(model, backend=backend)(x)
    torch.compiler.reset()
    with loopnest.use_chip(chip):
        close(torch.compile(model, backend=backend)(x), model(x))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout()), {}, r"dropout while training.*eval\(\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), {}, r"1\..*changes a buffer.*eval\(\)"),
        (nn.Linear(4, 4), {"chips": 2}, "options=.'chips'.: expected chip or programs"),
        (nn.Linear(4, 4), {"chip": "single"}, "chip='single': expected a Chip"),
    ],
)
def test_refused(model: Any, options: dict[str, Any], message: str, chip: loopnest.Chip) -> None:
    run, _ = compiled(model, chip, options)
    with pytest.raises(Exception, match=message):
        run(torch.randn(2, 4))


def test_no_gradients(chip: loopnest.Chip) -> None:
    run, _ = compiled(nn.Linear(4, 4), chip)
    with pytest.raises(RuntimeError, match="computes no gradients"):
        run(torch.randn(2, 4, requires_grad=True))
