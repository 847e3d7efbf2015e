"""The user's interface of the chip: tensors in, tensors out, and a report of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeAlias

from loopnest_hw.config import ChipConfig, make_config
from loopnest_sim.memory import Memory
from loopnest_sim.waves import WavesLike

from .arguments import flag, string
from .epilogue import Epilogue, check_epilogue
from .evaluate import Task, evaluate
from .explain import Explanation, explain
from .expression.notation import Access, Mask, Statement, accesses, parse, parse_einsum
from .expression.operand import Operand, as_source, mask_operand, statement_numbers
from .expression.semiring import Semiring, find_semiring
from .expression.shown import look
from .expression.view import view_sizes
from .formats.make import make_tensor
from .formats.pack import COMPRESSED, DENSE
from .formats.tensor import Levels, Tensor, parse_levels
from .kernel.backends import make_backend
from .kernel.shared import Latest, SharedBackend
from .loops.plan import default_levels, parse_order
from .matmul import matmul_einsum
from .progress import Watch
from .report.report import RunReport, combine, make_report
from .run import run_task

Result: TypeAlias = Any
"""`Tensor`, `csr_array`, `coo_array` or `ndarray` (scipy has no types to say so)."""

MASK = "mask"
"""Name of a mask among the operands."""

TAKEN = ("self", "statement", "order", "out", "epilogue", MASK, "complement", "semiring")
"""Arguments of `Chip.compute`, whose names operands cannot have."""


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
        self._shared = SharedBackend(lambda: make_backend(**settings))

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
        self._shared.close()

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
            operands make it sparse (`plan.result_is_sparse`).
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
        ring = find_semiring(string("semiring", semiring))
        parsed, known = self._parsed(statement, operands, mask, complement, ring)
        return self._run(parsed, known, order, out, epilogue, ring)

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

        Intermediates that later kernels need are computed on the golden model.

        Parameters
        ----------
        statement, order, out, mask, complement, semiring, **operands
            As for `compute`.

        Raises
        ------
        ValueError, TypeError
            As `compute`.
        """
        ring = find_semiring(string("semiring", semiring))
        parsed, known = self._parsed(statement, operands, mask, complement, ring)
        return explain(
            self.config,
            parsed,
            {a.name: o for a, o in zip(parsed.accesses, known, strict=True)},
            parse_order(order, parsed),
            _result_levels(parsed, known, out, epilogue, ring),
            epilogue=epilogue,
            latency=self.memory.latency,
            semiring=ring,
        )

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
        ring = find_semiring(string("semiring", semiring))
        parsed, known = self._seen(parsed, known, ring)
        parsed, known = self._masked(parsed, known, mask, complement)
        return self._run(parsed, known, order, out, epilogue, ring)

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

    def _parsed(
        self,
        statement: str,
        operands: Mapping[str, Any],
        mask: Any,
        complement: bool,
        semiring: Semiring,
    ) -> tuple[Statement, list[Operand]]:
        """Return the statement and its operands in the order written, the mask last, as the
        semiring sees them.
        """
        parsed = parse(statement)
        names = {a.tensor for a in parsed.accesses if a.number is None}
        for name in names.intersection(TAKEN):
            raise ValueError(
                f"{statement!r}: {name!r} is an argument of compute: expected another name for the "
                f"operand"
            )
        for name in operands:
            if name not in names:
                raise ValueError(f"operand {name!r}: {statement!r} does not have it")
        for name in names:
            if name not in operands:
                raise ValueError(f"operand {name!r} of {statement!r} is missing: expected {name}=")
        used = {access.tensor for access in accesses(parsed.expression)}
        given = {**operands, **statement_numbers(parsed, self.config.dtype)}
        known = {name: Operand(name, given[name], self.config.dtype) for name in used}
        found = [known[access.tensor] for access in accesses(parsed.expression)]
        if parsed.mask is not None:
            access = parsed.mask.access
            found.append(mask_operand(access.name, operands[access.name], self.config.dtype))
            if access.name in used:  # it has values there, so it is a separate operand here
                access = replace(access, name=f"{access.name}'")
                parsed = replace(parsed, mask=replace(parsed.mask, access=access))
        parsed, found = self._seen(parsed, found, semiring)
        return self._masked(parsed, found, mask, complement)

    @staticmethod
    def _seen(
        statement: Statement, operands: list[Operand], semiring: Semiring
    ) -> tuple[Statement, list[Operand]]:
        """Return statement and operands with the semiring's values, and views as operands."""
        viewed = any(access.places is not None for access in statement.accesses)
        shapes = [operand.shape for operand in operands]
        sizes = view_sizes(statement, shapes) if viewed else {}
        statement, operands = semiring.prepare(statement, operands)
        for operand in {id(operand): operand for operand in operands}.values():
            operand.warn_beyond()
        changed: dict[Access, Access] = {}
        seen = []
        for access, operand in zip(statement.accesses, operands, strict=True):
            if access.places is not None:
                changed[access], operand = look(operand, access, sizes)
            seen.append(operand)
        return statement.with_accesses(lambda access: changed.get(access, access)), seen

    def _masked(
        self, statement: Statement, operands: list[Operand], mask: Any, complement: bool
    ) -> tuple[Statement, list[Operand]]:
        """Return the statement and the operands with the mask added."""
        complement = flag("complement", complement)
        if mask is not None and statement.mask is not None:
            raise ValueError(f"mask: {statement} has one already")
        if mask is None:
            if complement:
                raise ValueError(f"complement={complement!r}: expected a mask")
            return statement, operands
        if not statement.result.indices:
            raise ValueError(f"mask: {statement.result} is a number: expected a result to mask")
        own = mask_operand(MASK, mask, self.config.dtype)
        access = replace(statement.result, name=MASK)
        return replace(statement, mask=Mask(access, complement)), [*operands, own]

    def _run(
        self,
        statement: Statement,
        operands: Sequence[Operand],
        order: str | Sequence[str] | None,
        out: Levels | None,
        epilogue: Epilogue | None,
        semiring: Semiring,
    ) -> Result:
        levels = _result_levels(statement, operands, out, epilogue, semiring)
        named = {a.name: o for a, o in zip(statement.accesses, operands, strict=True)}
        reports: list[RunReport] = []
        loops = parse_order(order, statement)
        self._shared.check_open()
        self._reports.value = None
        tensor = evaluate(
            self.config,
            statement,
            named,
            order=loops,
            levels=levels,
            epilogue=epilogue,
            latency=self.memory.latency,
            semiring=semiring,
            run=lambda task: self._kernel(task, reports),
        )
        self._reports.value = combine(str(statement), reports)
        if any(isinstance(operand.source, Tensor) for operand in operands):
            return tensor
        return tensor.to_scipy() if COMPRESSED in levels else tensor.to_dense()

    def _kernel(self, task: Task, reports: list[RunReport]) -> Tensor:
        """Run a kernel, append its report and return its result."""
        result, kernel, counters = self._shared.run(
            lambda backend: run_task(self.config, backend, task, self._settings["progress"])
        )
        reports.append(make_report(self.config, self.memory, kernel, counters))
        return result


def _result_levels(
    statement: Statement,
    operands: Sequence[Operand],
    out: Levels | None,
    epilogue: Epilogue | None,
    semiring: Semiring,
) -> tuple[str, ...]:
    """Check the result's levels and the epilogue; return the levels."""
    check_epilogue(epilogue)
    keeps_zero = epilogue is None or (epilogue.keeps_zero and semiring.zero == 0)
    if statement.mask is not None and not keeps_zero:
        rows = set(statement.result.indices) - set(statement.mask.access.indices)
        if statement.mask.complement or not rows or semiring.zero != 0:
            raise ValueError(
                "epilogue: it makes 0, which the mask leaves out, another value: expected one "
                "that keeps 0, or a mask that keeps whole rows"
            )
    if out is None:
        levels = default_levels(statement, operands)
    else:
        try:
            levels = parse_levels(out, len(statement.result.indices))
        except (TypeError, ValueError) as error:
            raise type(error)(f"out: {error}") from None
    if semiring.zero != 0 and COMPRESSED in levels:
        if DENSE in levels[levels.index(COMPRESSED) :]:
            raise ValueError(
                f"out={out!r}: what the dense level adds would be 0, which is not the zero of "
                f"{semiring.name}: expected the compressed levels innermost"
            )
        if epilogue is not None:
            raise ValueError(
                f"epilogue: a compressed result loses what becomes 0, which is not the zero of "
                f"{semiring.name}: expected a dense result"
            )
    return levels
