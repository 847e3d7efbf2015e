"""`torch.compile` equals eager PyTorch, within the bound of docs/models.md."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from loopnest import Chip  # noqa: E402
from loopnest.frontends.torch import from_torch  # noqa: E402
from loopnest.frontends.torch.backend import loopnest as backend  # noqa: E402
from tests.sw.graph.bounds import error_bounds  # noqa: E402
from tests.sw.graph.deviations import error_deviations  # noqa: E402


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x):
        y = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(y)) + x)


def network():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Residual(8),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model


MODELS = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)), (4, 32)),
    "images": (network, (2, 3, 16, 16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_within_the_bound(name):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, x = make().eval(), torch.randn(shape)
    run = torch.compile(model, backend=backend, options={"chip": Chip(backend="model")})
    error = np.abs((run(x) - model(x)).detach().numpy())
    (bound,) = error_bounds(from_torch(model, (x,))).values()
    assert np.all(error <= bound)
    # a bound says something: the numbers are of the size of 1
    assert error.max() > 1e-4 and bound.max() < 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_is_within_six_deviations(norm_first, seed):
    """Behind a normalisation the worst case says nothing: what is expected of rounding does."""
    torch.compiler.reset()  # it compiles a function a few times only
    torch.manual_seed(seed)
    model = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first).eval()
    x = torch.randn(2, 6, 32)
    run = torch.compile(model, backend=backend, options={"chip": Chip(backend="model")})
    error = np.abs((run(x) - model(x)).detach().numpy())
    (deviation,) = error_deviations(from_torch(model, (x,))).values()
    assert np.all(error <= 6 * deviation)
    # it is not much too large
    assert np.sqrt(np.mean((error / deviation) ** 2)) > 0.3
