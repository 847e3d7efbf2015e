"""Results that are parts of a larger tensor."""

import numpy as np
import pytest

import loopnest
from loopnest import Assignment, Chip, Epilogue
from loopnest.nest.result import Part
from loopnest.program.operation import HostOperation
from loopnest.program.program import Program
from loopnest.program.start import Start

CHIP = Chip("single", dtype="int8", backend="model")
SHAPE = (3, 8, 7)
FIRST = Part(SHAPE, (0, 1, 0), (0, 1, 2))
SECOND = Part(SHAPE, (0, 6, 0), (0, 1, 2))
WHOLE = [[0, 1, 0], [3, 5, 7]]

RNG = np.random.default_rng(1)
A, B = (RNG.integers(-3, 4, (3, size, 7)) for size in (5, 2))
W = RNG.integers(-2, 3, (7, 4))


def joined(a=A, b=B):
    found = np.zeros(SHAPE, np.int64)
    found[:, 1:6], found[:, 6:] = a, b
    return found


def items(**changes):
    return [
        Assignment(statement="X0[h,t,d] = A[h,t,d]", part=FIRST),
        Assignment(**{"statement": "X[h,t,d] = B[h,t,d]", "part": SECOND, "base": "X0"} | changes),
        "Y[h,t,o] = X[h,t,d] * W[d,o]",
    ]


def program(*given, **inputs):
    return loopnest.compile(list(given), {"A": A, "B": B, "W": W} | inputs, chip=CHIP)


def kinds(program):
    return [type(stage).__name__ for stage in program.contents.stages]


def test_parts_and_their_reader_are_one_start(tmp_path):
    one = program(*items())
    assert kinds(one) == ["Start"]
    memory = one.contents.stages[0].image.kernels
    assert memory[0].fields["result.values"] == memory[1].fields["result.values"]
    assert "result.initialise" not in memory[1].fields
    one.save(tmp_path / "one.lnp")
    one.export(tmp_path / "one.bin")
    for run in (one, loopnest.load(tmp_path / "one.lnp", chip=CHIP)):
        assert np.array_equal(run(A, B, W), joined() @ W)
        assert np.array_equal(run(-A, B, W), joined(-A) @ W)
    both = loopnest.compile(items()[:2], {"A": A, "B": B}, chip=CHIP)
    assert np.array_equal(both(), joined())


@pytest.mark.parametrize(
    "changes",
    [
        {"order": "dth"},  # the chip writes it in another order
        {"epilogue": Epilogue(out="narrow")},  # the base is wide
        {"epilogue": Epilogue(bias=np.zeros((3, 1, 1)))},
    ],
)
def test_what_the_chip_cannot_write_there_the_host_does(changes):
    one = program(*items(**changes))
    assert "HostStep" in kinds(one)
    assert np.array_equal(one(), joined() @ W)
    assert np.array_equal(one.run(B=-B)["Y"], joined(b=-B) @ W)


def test_a_sparse_part_of_a_base_is_put_there_by_the_host():
    """A kernel that does not visit every element would leave what is there."""
    sparse = B * (RNG.random(B.shape) < 0.2)
    one = program(*items(), B=CHIP.tensor(sparse, levels="dense,compressed,compressed"))
    assert "HostStep" in kinds(one) and np.array_equal(one(), joined(b=sparse) @ W)


def test_a_masked_part_of_a_base_is_put_there_by_the_host():
    """An epilogue fills the rows that the mask keeps; in the others the base would stay."""
    F = RNG.integers(1, 4, SHAPE)
    whole = Assignment(statement="X0[h,t,d] = F[h,t,d]", part=Part(SHAPE, (0, 0, 0), (0, 1, 2)))
    text, bias = "X[h,t,d] = B[h,t,d] where M[h]", Epilogue(bias=2.0)
    last = Assignment(statement=text, part=SECOND, base="X0", epilogue=bias)
    one = loopnest.compile([whole, last], {"F": F, "B": B, "M": np.ones(3)}, chip=CHIP)
    for mask in ([1.0, 1, 1], [0.0, 1, 0], [0.0, 0, 0]):
        expected = F.copy()
        expected[:, 6:] = (B + 2) * np.array(mask, int)[:, None, None]
        assert np.array_equal(one.run(M=np.array(mask))["X"], expected)


def test_a_base_of_the_host_is_written_in_each_run():
    """A zero that an epilogue drops is a zero, not what the run before has written."""
    narrow = Epilogue(out="narrow")
    made = HostOperation(
        result="K", operator="place_parts", operands=("A",), shape=SHAPE,
        attributes={"shape": SHAPE, "firsts": WHOLE[:1], "sizes": WHOLE[1:]},
    )  # fmt: skip
    last = Assignment(statement="X[h,t,d] = B[h,t,d]", part=SECOND, base="K", epilogue=narrow)
    reader = Assignment(statement=items()[-1])
    one = Program(CHIP.device, [made, last, reader], {"A": A, "B": B, "W": W})
    assert kinds(one) == ["HostStep", "Start"]
    for b in (B + 5, B, 0 * B, B):
        assert np.array_equal(one.run(B=b)["Y"], joined(b=b) @ W)
    known = [Assignment(statement="X[h,t,d] = B[h,t,d]", part=SECOND, base="K", epilogue=narrow)]
    given = loopnest.compile(known, {"B": B, "K": joined(b=9)}, chip=CHIP)
    assert "HostStep" in kinds(given) and np.array_equal(given(), joined())


def test_a_base_that_something_else_reads():
    """It is not changed."""
    one = program(*items(), "Z[h,t] = X0[h,t,d]")
    found = one.run()
    assert np.array_equal(found["Y"], joined() @ W)
    assert np.array_equal(found["Z"], joined(b=0).sum(axis=2))


def test_a_part_of_one_row():
    part = Part((3, 7), (1, 0), (1,))
    one = loopnest.compile(
        [Assignment(statement="X[d] = c[d]", part=part)], {"c": A[0, 0]}, chip=CHIP
    )
    assert np.array_equal(one(), np.stack([0 * A[0, 0], A[0, 0], 0 * A[0, 0]]))


def test_slots_of_a_part(slots_run_out):
    """Where the accumulator turns out to be too small, the part is computed otherwise."""
    statement = "X[h,t] = M[h,k] * V[k,t]"
    first = Assignment(statement="X0[h,t] = U[h,t]", part=Part((4, 9), (0, 0), (0, 1)))
    part = Part((4, 9), (0, 3), (0, 1))
    M, V, U = (RNG.integers(-3, 4, shape) for shape in ((4, 8), (8, 6), (4, 3)))
    one = loopnest.compile(
        [first, Assignment(statement=statement, part=part, base="X0", order="kht")],
        {"M": M, "V": V, "U": U},
        chip=CHIP,
    )
    failed = slots_run_out("X")
    assert np.array_equal(one(), np.concatenate([U, M @ V], axis=1)) and failed


def test_errors():
    with pytest.raises(ValueError, match=r"X of shape \(3, 2, 7\): expected a part of \(3, 7, 7\)"):
        program(*items(part=Part((3, 7, 7), (0, 6, 0), (0, 1, 2))))
    with pytest.raises(ValueError, match=r"W has shape \(7, 4\): expected \(3, 8, 7\)"):
        program(*items(base="W"))


def test_stages_of_one_start():
    (stage,) = program(*items()).contents.stages
    assert isinstance(stage, Start) and len(stage.image.regions) == 3
