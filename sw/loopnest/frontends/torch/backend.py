"""The backend of `torch.compile`."""

import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from ...chip import Chip
from ...default import default_chip
from ...graph.model import Model
from .export import from_torch
from .traced import as_array, as_tensor

OPTIONS = ("chip", "programs")

WARNED: set[str] = set()
"""The operators that warnings have named."""


def loopnest(
    module: fx.GraphModule, examples: Sequence[Any], *, options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Compile what PyTorch traced: ``torch.compile(model, backend="loopnest")``.

    A program is compiled as the function is called, for the shapes that it is called with, and
    again if a weight has changed since. It computes no gradients. A warning names the operators
    that the host computes.

    Parameters
    ----------
    options : mapping
        ``chip``: the chip, by default that of `use_chip` or `set_default_chip`; ``programs``: a
        list to which each program is added as it is compiled.

    Raises
    ------
    TypeError
        If an option is not one of these.
    RuntimeError
        If there is no chip.
    """
    given = dict(options or {})
    unknown = set(given) - set(OPTIONS)
    if unknown:
        raise TypeError(f"options={sorted(unknown)}: expected {' or '.join(OPTIONS)}")
    chip = given.get("chip") or default_chip(
        'torch.compile(backend="loopnest")', 'options={"chip": chip}'
    )
    if not isinstance(chip, Chip):
        raise TypeError(f"chip={chip!r}: expected a Chip")
    return Compiled(module, chip, given.get("programs"))


class Compiled:
    """Runs the programs of a traced function; one for the shapes of each call.

    Parameters
    ----------
    module : torch.fx.GraphModule
        Its arguments are the inputs and the weights of the function.
    chip : Chip
    programs : list, optional
        Each program is added to it.
    """

    def __init__(
        self, module: fx.GraphModule, chip: Chip, programs: list[Any] | None = None
    ) -> None:
        self._module, self._chip, self._programs = module, chip, programs
        self._weights = _weight_names(module)
        self._compiled: dict[Any, Program] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Run the program for the arguments' shapes; compile it if there is none."""
        inputs = [a for n, a in enumerate(arguments) if n not in self._weights]
        if torch.is_grad_enabled() and any(
            isinstance(a, torch.Tensor) and a.requires_grad for a in inputs
        ):
            raise RuntimeError(
                "an input that requires a gradient: expected none, loopnest computes no gradients"
            )
        key = tuple((tuple(a.shape), a.dtype) if isinstance(a, torch.Tensor) else a for a in inputs)
        weights = {name: arguments[number] for number, name in self._weights.items()}
        digests = {name: _digest(tensor) for name, tensor in weights.items()}
        program = self._compiled.get(key)
        if program is None or program.digests != digests:
            program = Program(self._module, self._weights, weights, inputs, self._chip)
            program.digests = digests
            self._compiled[key] = program
            if self._programs is not None:
                self._programs.append(program.model)
            program.warn()
        return program(inputs)


class Program:
    """A program for inputs of certain shapes, and weights of certain values."""

    digests: dict[str, int]

    def __init__(
        self,
        module: fx.GraphModule,
        places: Mapping[int, str],
        weights: Mapping[str, torch.Tensor],
        inputs: Sequence[Any],
        chip: Chip,
    ) -> None:
        self._outputs: list[Any] = []
        """The type of each result that is a tensor, and the others as they are."""
        graph = from_torch(Held(module, places, weights, self._outputs), tuple(inputs))
        self._names = tuple(graph.inputs)
        self._results = graph.outputs
        self.model = Model(chip.device, graph)

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the function's results as PyTorch has them."""
        arrays = [as_array(a) for a in inputs if isinstance(a, torch.Tensor)]
        found = self.model.run(**dict(zip(self._names, arrays, strict=True)))
        results = iter(self._results)
        return [
            as_tensor(found[next(results)], o) if isinstance(o, torch.dtype) else o
            for o in self._outputs
        ]

    def warn(self) -> None:
        """Warn of operators that the host computes, once in the same words."""
        counts = Counter(p.node.operator for p in self.model.placement if p.where == "host")
        shown = ", ".join(
            f"{name} ({n} times)" if n > 1 else name for name, n in sorted(counts.items())
        )
        if shown and shown not in WARNED:
            WARNED.add(shown)
            warnings.warn(f"loopnest: the host computes {shown}", stacklevel=3)


class Held(torch.nn.Module):
    """A traced function as a module that has its weights as buffers.

    ``outputs`` is filled as it is exported.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        places: Mapping[int, str],
        weights: Mapping[str, torch.Tensor],
        outputs: list[Any],
    ) -> None:
        super().__init__()
        for path, tensor in weights.items():
            _hold(self, path.split("."), tensor.detach())

        def run(held: torch.nn.Module, inputs: Iterator[Any]) -> Any:
            buffers = dict(held.named_buffers(remove_duplicate=False))
            count = len(module.graph.find_nodes(op="placeholder"))
            given = [buffers[places[n]] if n in places else next(inputs) for n in range(count)]
            # operators keep the modules that they are of
            with fx.traceback.preserve_node_meta():
                found = fx.Interpreter(module).run(*given)
            outputs[:] = [f.dtype if isinstance(f, torch.Tensor) else f for f in found]
            return found

        # in a tuple it is no method, and copies of the module share it
        self._run = (run,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Held":
        return self

    def forward(self, *inputs: Any) -> Any:
        """Run the function."""
        return self._run[0](self, iter(inputs))


def _hold(module: torch.nn.Module, path: Sequence[str], tensor: torch.Tensor) -> None:
    """Register a buffer in a module within a module."""
    *modules, name = path
    for part in modules:
        if part not in module._modules:
            module.add_module(part, torch.nn.Module())
        module = module._modules[part]
    module.register_buffer(name, tensor)


def _weight_names(module: fx.GraphModule) -> dict[int, str]:
    """Return the names of the arguments that are weights: what modules hold, and global tensors.

    The name is the path in the module; with the variable that holds the module in front, if there
    are several.
    """
    paths: dict[int, list[str]] = {}
    for number, node in enumerate(module.graph.find_nodes(op="placeholder")):
        argument = node.meta.get("grapharg")
        source = getattr(argument, "source", None)
        if source is None or not isinstance(argument.example, torch.Tensor):
            continue
        name = source.name if isinstance(source.name, str) else source.name()
        held = "_dynamo_static_input_type" in node.meta.get("tensor_dict", {})
        if held or name.startswith("G["):
            words = re.findall(r"\w+", name)[1:]
            paths[number] = [w for w in words if w not in ("_modules", "_parameters", "_buffers")]
    one = len({path[0] for path in paths.values()}) == 1
    return {n: ".".join(path[1:] if one and path[1:] else path) for n, path in paths.items()}


def _digest(tensor: torch.Tensor) -> int:
    """Return a number that changes with a tensor's elements, however they are changed."""
    array = as_array(tensor)
    if hasattr(array, "tocoo"):
        array = array.tocoo()
        return zlib.crc32(np.stack(array.coords).tobytes(), zlib.crc32(array.data.tobytes()))
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
