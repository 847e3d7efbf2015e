"""The user's interface of the chip: tensors in, tensors out, and a report of the run."""

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

from loopnest_hw.config import ChipConfig, make_config
from loopnest_sim.memory import Memory
from loopnest_sim.waves import WavesLike

from .arguments import string
from .epilogue import Epilogue
from .expression.operand import Operand
from .expression.parser import parse_einsum
from .expression.semiring import find_semiring
from .expression.sources import as_source
from .formats.make import make_tensor
from .formats.tensor import Levels, Tensor
from .kernel.backends import make_backend
from .kernel.shared import Latest, SharedBackend
from .matmul import matmul_einsum
from .program.build import Planned, build
from .program.device import Device
from .program.execute import Values, user_result
from .program.explain import Explanation
from .program.prepare import Prepared, arranged, prepare
from .progress import Watch
from .report.report import RunReport, combine

Result: TypeAlias = Any
"""`Tensor`, `csr_array`, `coo_array` or `ndarray` (scipy has no types to say so)."""


class Chip:
    """A chip and its memory.

    Threads may share one: their kernels take turns. After an exception, whatever raised it and
    when, the next run is right. Copied or pickled, a chip is its settings; in a forked process it
    has a memory of its own. ``with Chip() as chip:`` closes it at the end (`close`).

    Parameters
    ----------
    preset : str
        Configuration by name (`loopnest_hw.config.PRESETS`).
    dtype : str
        Number format, ``"bf16"`` or ``"int8"``.
    memory : Memory, optional
        Behaviour of the simulated memory.
    backend : str
        ``"rtl"``: the chip's Verilog in the simulator. ``"model"``: the golden model, which gives
        the same bits and no cycles, and needs no compiler.
    waves : path or (path, first, last), optional
        File to record waves to (rtl), of all cycles since the chip was made or of these:
        ``("file", 1000, 2000)``. It gets the suffix ``.fst``, or ``.vcd`` where zlib's header is
        not installed.
    progress : bool or callable
        Whether what takes long is shown, on a terminal and in notebooks: what is built, and the
        cycles done of those expected (`loopnest.progress.enabled` is the switch for all chips). Or
        what is called with these two numbers instead, some ten times a second; what it raises ends
        the run.
    **overrides
        Fields of the configuration, such as ``multipliers=8``.

    Attributes
    ----------
    config : ChipConfig
    device : Device
        What runs its kernels.
    report : RunReport or None
        Of the last run in this thread, or in any if this one has run nothing; None where that run
        did not end.

    Raises
    ------
    ValueError
        For an unknown preset, field, number format or backend.
    TypeError
        For a field that is not an integer, or a memory or waves of another type.
    """

    def __init__(
        self,
        preset: str = "single",
        *,
        dtype: str = "bf16",
        memory: Memory | None = None,
        backend: str = "rtl",
        waves: WavesLike | None = None,
        progress: bool | Watch = True,
        **overrides: int,
    ) -> None:
        config = make_config(preset, dtype, **overrides)
        if not (memory is None or isinstance(memory, Memory)):
            raise TypeError(f"memory={memory!r}: expected a Memory or None")
        memory = Memory() if memory is None else memory
        if not (isinstance(progress, bool) or callable(progress)):
            raise TypeError(f"progress={progress!r}: expected True, False or a function")
        settings = {"config": config, "memory": memory, "backend": backend, "waves": waves}
        self.__setstate__(settings | {"progress": progress})

    def __getstate__(self) -> dict[str, Any]:
        return self._settings

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self.config: ChipConfig = settings["config"]
        self.memory: Memory = settings["memory"]
        self._reports: Latest[RunReport] = Latest()
        shared = SharedBackend(lambda: make_backend(**settings))
        self.device = Device(self.config, self.memory, shared, settings["progress"])

    @property
    def report(self) -> RunReport | None:
        return self._reports.value

    def close(self) -> None:
        """Free the simulator and its memory, and complete its waves. A run in another thread ends
        first.

        A closed chip computes nothing more (ValueError), but keeps its report. A chip that nothing
        refers to any more is closed too.

        Raises
        ------
        RuntimeError
            If called in the middle of a run, from a progress function.
        """
        self.device.shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tensor(
        self,
        array: Any,
        *,
        levels: Levels | None = None,
        mode_order: Sequence[int] | None = None,
        wide: bool = False,
    ) -> Tensor:
        """Pack an array or a `Tensor` in the chip's number format (`formats.make.make_tensor`).

        Raises
        ------
        ValueError, TypeError
            For values that the chip can't hold, or levels that do not fit.
        """
        return make_tensor(
            array, self.config.dtype, levels=levels, mode_order=mode_order, wide=wide
        )

    def compute(
        self,
        statement: str,
        *,
        order: str | Sequence[str] | None = None,
        out: Levels | None = None,
        epilogue: Epilogue | None = None,
        mask: Any = None,
        complement: bool = False,
        semiring: str = "plus_times",
        **operands: Any,
    ) -> Result:
        """Run a statement in tensor index notation, such as ``"C[i,j] = A[i,k] * B[k,j]"``.

        Parameters
        ----------
        statement : str
            With ``+``, ``-``, ``*`` and parentheses; indices missing on the left are summed.
        order : str or sequence of str, optional
            The loops, outermost first: ``"ikj"``. By default the order with the lowest estimate.
        out : str or sequence of str, optional
            The result's levels, such as ``"dense,compressed"``. By default compressed if the
            operands make it sparse (`loops.plan.result_is_sparse`).
        epilogue : Epilogue, optional
            Applied to the result, except where a mask leaves it out. Without an epilogue the result
            is wide, and its pattern is structural: a sum that is 0 stays stored.
        mask : array or Tensor, optional
            Of the result's shape: the result is computed and kept only where this has an entry,
            whatever its value; for a NumPy array, where it is not 0.
        complement : bool
            Keep it where the mask has no entry instead.
        semiring : str
            The operations of ``+`` (of terms, and of sums over indices) and ``*``: one of
            `loopnest.expression.semiring.SEMIRINGS`, such as ``"min_plus"``. Absent entries are its
            zero.
        **operands
            The tensors by name: scipy.sparse arrays, NumPy arrays, numbers, or `Tensor`.

        Returns
        -------
        Tensor, csr_array, coo_array or ndarray
            A `Tensor` if an operand is one. Otherwise an `ndarray` if the result is dense, a
            `csr_array` if it is a compressed matrix, or a `coo_array` of another order.

        Raises
        ------
        ValueError, TypeError
            Before the start, if an argument is wrong or the statement cannot be computed.
        ChipError
            If the chip stops with an error.
        """
        prepared = prepare(
            self.config,
            statement,
            operands,
            semiring=find_semiring(string("semiring", semiring)),
            order=order,
            out=out,
            epilogue=epilogue,
            mask=mask,
            complement=complement,
        )
        return self._run(prepared)

    def explain(
        self,
        statement: str,
        *,
        order: str | Sequence[str] | None = None,
        out: Levels | None = None,
        epilogue: Epilogue | None = None,
        mask: Any = None,
        complement: bool = False,
        semiring: str = "plus_times",
        **operands: Any,
    ) -> Explanation:
        """Return what `compute` would do; printed, it shows each kernel's loops and cost.

        Nothing is run: what later kernels need of intermediates is predicted.

        Parameters
        ----------
        statement, order, out, mask, complement, semiring, **operands
            As for `compute`.

        Raises
        ------
        ValueError, TypeError
            As `compute`.
        """
        prepared = prepare(
            self.config,
            statement,
            operands,
            semiring=find_semiring(string("semiring", semiring)),
            order=order,
            out=out,
            epilogue=epilogue,
            mask=mask,
            complement=complement,
        )
        return Explanation(str(prepared.statement), self._build(prepared).steps)

    def einsum(
        self,
        subscripts: str,
        *operands: Any,
        order: str | Sequence[str] | None = None,
        out: Levels | None = None,
        epilogue: Epilogue | None = None,
        mask: Any = None,
        complement: bool = False,
        semiring: str = "plus_times",
    ) -> Result:
        """Run a product given as an einsum string, such as ``"ik,kj->ij"``.

        Parameters
        ----------
        subscripts : str
            The operands' indices, each a letter, then ``->`` and the result's; without these, the
            result has the indices that appear once, in alphabetic order.
        *operands
            The tensors, one for each term.
        order, out, epilogue, mask, complement, semiring
            As for `compute`.

        Returns
        -------
        Tensor, csr_array, coo_array or ndarray
            As `compute`.

        Raises
        ------
        ValueError, TypeError, ChipError
            As `compute`; its messages name the operands A, B, C.
        """
        parsed = parse_einsum(subscripts, len(operands))
        known = [
            Operand(access.tensor, operand, self.config.dtype)
            for access, operand in zip(parsed.accesses, operands, strict=True)
        ]
        prepared = arranged(
            self.config,
            parsed,
            known,
            semiring=find_semiring(string("semiring", semiring)),
            order=order,
            out=out,
            epilogue=epilogue,
            mask=mask,
            complement=complement,
        )
        return self._run(prepared)

    def matmul(
        self,
        A: Any,
        B: Any,
        *,
        order: str | Sequence[str] | None = None,
        out: Levels | None = None,
        epilogue: Epilogue | None = None,
        mask: Any = None,
        complement: bool = False,
        semiring: str = "plus_times",
    ) -> Result:
        """Run ``A @ B``; the other arguments are those of `compute`.

        Matrices, vectors and stacks of them follow the rules of `numpy.matmul`. The loops are i, k
        and j, those of stacks a, b, ... from the outermost.

        Raises
        ------
        ValueError, TypeError, ChipError
            As `compute`, and for shapes that do not match.
        """
        subscripts, A, B = matmul_einsum(as_source("A", A), as_source("B", B))
        rest: dict[str, Any] = {"mask": mask, "complement": complement, "semiring": semiring}
        return self.einsum(subscripts, A, B, order=order, out=out, epilogue=epilogue, **rest)

    def _build(self, prepared: Prepared) -> Planned:
        return build(self.config, prepared, self.memory.latency)

    def _run(self, prepared: Prepared) -> Result:
        self.device.shared.check_open()
        self._reports.value = None
        planned = self._build(prepared)
        values: Values = {}
        reports = self.device.execute(planned.steps, values, [planned.result])
        self._reports.value = combine(str(prepared.statement), [report for _, report in reports])
        return user_result(planned, values)
