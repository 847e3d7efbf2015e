"""Statements and einsum strings, and where they go wrong."""

import pytest

from loopnest.expression.notation import Access, Binary, Negate
from loopnest.expression.parser import MAX_OPERATORS, parse, parse_einsum


def test_products_bind_stronger_than_sums():
    statement = parse("x[i] = b[i] - C[i,j] * d[j]")
    b, c, d = Access("b", ("i",)), Access("C", ("i", "j")), Access("d", ("j",))
    assert statement.expression == Binary("-", b, Binary("*", c, d))
    assert statement.indices == ("i", "j") and statement.summed == ("j",)


def test_parentheses_signs_and_spaces():
    a, b, c = (Access(n, ("i",)) for n in "abc")
    assert parse(" y[ i ]=a[i]*( b[i]+ -c[i])").expression == Binary(
        "*", a, Binary("+", b, Negate(c))
    )


@pytest.mark.parametrize(
    "text",
    [
        "y[i] = a[i] * b[i] * c[i]",
        "y[i] = (a[i] * b[i]) * c[i]",
        "y[i] = a[i] * (b[i] * c[i])",
        "y[i] = (a[i] * b[i] * c[i])",
        "y[i] = -(a[i] * b[i]) - -c[i]",
        "y[i] = a[i] * (b[i] - (c[i] - d[i])) - (a[i] + b[i])",
        "y[i] = -(a[i] + b[i]) * -a[i] where not m[i]",
    ],
)
def test_a_statement_is_written_with_the_parentheses_that_mean_something(text):
    assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)
    grouped = "(a[i] * b[i])" in text
    assert (parse(text) == parse(text.replace("(a[i] * b[i])", "a[i] * b[i]"))) is not grouped


@pytest.mark.parametrize("left", ["s", "s[]", "s [ ]"])
def test_scalars(left):
    statement = parse(f"{left} = a[i] * alpha")
    assert statement.result == Access("s", ())
    assert statement.accesses == (Access("a", ("i",)), Access("alpha", ()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "position 0 of '': the end, expected a tensor's name"),
        ("y[i]", "position 4 .*the end, expected '='"),
        ("y[i] = ", "position 7 .*expected a tensor's name"),
        ("y[i] = a[i", "position 10 .*the end, expected ','"),
        ("y[i] = a[i]]", r"position 11 .*'\]', expected an operator or the end"),
        ("y[i] = a[i] b[i]", "position 12 .*'b', expected an operator"),
        ("y[i] = (a[i] + b[i]", r"position 19 .*expected '\)'"),
        ("y[i] = 2 a[i]", "position 9 .*'a', expected an operator"),
        ("y[i] = 1e999 * a[i]", "position 7 .*'1e999', expected a finite number"),
        (f"y[i] = a[i] * {'1' * 41}", "position 14 .*expected a number of up to 40 characters"),
        ("y[i] = a[1.5*i]", "position 9 .*'1.5', expected an index"),
        ("y[i] = a[i] * 2[i]", r"position 15 .*'\[', expected an operator"),
        ("y[i] = 3", "position 7 .*no operand has index 'i'"),
        ("3 = a[i]", "position 0 .*'3', expected a tensor's name"),
        ("y[i] = a(i)", r"position 8 .*'\(', expected an operator"),
        ("y[i] = a[i] / b[i]", r"position 12 .*'/', expected no division, \* and a"),
        ("y[i,j] = a[i]", "position 9 .*no operand has index 'j'"),
        ("y[i] = y[i] + a[i]", "'y' is on both sides"),
    ],
)
def test_errors(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_einsum():
    assert parse_einsum("ik,kj->ij", 2) == parse("result[i,j] = A[i,k] * B[k,j]")
    assert parse_einsum("ij, ik, kj -> ij", 3).summed == ("k",)
    assert parse_einsum("ik,kj", 2).result.indices == ("i", "j")
    assert parse_einsum("i,i->", 2).result.indices == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ik;kj->ij", "einsum 'ik;kj->ij' at position 2"),
        ("ik,kj->ij->k", "expected letters"),
        ("...k,kj->ij", "at position 0"),
        ("ik->i", "1 terms for 2 operands"),
    ],
)
def test_einsum_errors(text, message):
    with pytest.raises(ValueError, match=message):
        parse_einsum(text, 2)


@pytest.mark.parametrize(
    "text",
    ["(" * 5000, "-" * 5000 + "x", "+".join(["x"] * 5000), "x*(" * 5000, "-(" * 5000],
)
def test_statements_too_large(text):
    """They would nest deeper than Python can follow."""
    with pytest.raises(ValueError, match=f"more than {MAX_OPERATORS} operators and parentheses"):
        parse(f"y = {text}")


def test_what_is_no_text():
    with pytest.raises(TypeError, match="statement=5: expected a string"):
        parse(5)
    with pytest.raises(TypeError, match=r"subscripts=\['ij', 'j'\]: expected a string"):
        parse_einsum(["ij", "j"], 2)


def test_einsum_of_many_operands():
    names = [access.name for access in parse_einsum(",".join("i" * 60), 60).accesses]
    assert len(set(names)) == 60 and names[25:28] == ["Z", "A1", "B1"]
