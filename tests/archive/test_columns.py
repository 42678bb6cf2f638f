"""The vectorised parser reads what plain Python reads, and refuses the rest."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.archive.columns import parse_block
from klinetrio.archive.rows import Column, Kind, RowError, parse_rows


if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = (Kind.INTEGER, Kind.DECIMAL, Kind.INTEGER, Kind.BOOLEAN, Kind.DECIMAL)

integers = st.integers(0, 2**53) | st.integers(0, 99_999)
# Up to eighteen digits in all, so that any two of a column fit 64 bits at a common scale of 6.
decimals = st.builds(
    lambda whole, fraction, point: whole + (point and "." + fraction),
    st.integers(0, 10**12 - 1).map(str),
    st.text("0123456789", max_size=6),
    st.sampled_from(["", "."]),
)
booleans = st.sampled_from(["true", "false", "True", "False"])
rows = st.tuples(integers.map(str), decimals, integers.map(str), booleans, decimals)


def truth(cells: Sequence[str], kind: Kind, decimals: int) -> list[int]:
    """The obvious reading."""
    if kind is Kind.BOOLEAN:
        return [int(cell.lower() == "true") for cell in cells]
    return [int(Decimal(cell).scaleb(decimals)) for cell in cells]


@settings(max_examples=150)
@given(st.lists(rows, min_size=1, max_size=20))
def test_any_legal_rows_are_read_exactly(lines: list[tuple[str, ...]]) -> None:
    """Whatever the number of digits, decimals and trailing zeros (I1)."""
    block = "".join(",".join(cells) + "\n" for cells in lines).encode()

    for parse in (parse_block, parse_rows):
        columns = parse(block, KINDS, 1)
        for cells, kind, column in zip(zip(*lines, strict=True), KINDS, columns, strict=True):
            assert truth(cells, kind, column.decimals) == column.values.tolist()


@settings(max_examples=250)
@given(st.lists(rows, min_size=1, max_size=4), st.data())
def test_damaged_rows_are_read_as_plain_python_does_or_refused(
    lines: list[tuple[str, ...]], data: st.DataObject
) -> None:
    """One byte more, less or another: the fast way never takes what the slow one refuses (I1)."""
    block = bytearray("".join(",".join(cells) + "\n" for cells in lines).encode())
    at = data.draw(st.integers(0, len(block) - 2))
    damage = data.draw(
        st.binary(max_size=2) | st.sampled_from([b".", b",", b"-", b"e", b" ", b"/"])
    )
    block[at : at + data.draw(st.integers(0, 2))] = damage
    raw = bytes(block).rstrip(b"\n") + b"\n"

    def outcome(parse: object) -> object:
        try:
            columns: list[Column] = parse(raw, KINDS, 1)  # type: ignore[operator]
        except RowError as error:
            return error.line, error.detail
        # The two may keep different numbers of trailing zeros.
        return [
            [Decimal(value).scaleb(-column.decimals) for value in column.values.tolist()]
            for column in columns
        ]

    assert outcome(parse_rows) == outcome(parse_block)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2.5,3,true", "expected 5 columns, was 4"),
        ("1,2.5,3,true,4,5", "expected 5 columns, was 6"),
        ("", "expected 5 columns, was 1"),
        ("x,2.5,3,true,4", "expected a decimal number, was 'x'"),
        ("1.0,2.5,3,true,4", "expected a whole number up to 2.*, was '1.0'"),
        ("9007199254740993,2.5,3,true,4", "expected a whole number up to 2"),
        ("1,-2.5,3,true,4", "expected a decimal number, was '-2.5'"),
        ("1,2.5e3,3,true,4", "expected a decimal number, was '2.5e3'"),
        ("1,2.5.1,3,true,4", "expected a decimal number, was '2.5.1'"),
        ("1,,3,true,4", "expected a decimal number, was ''"),
        ("1,.,3,true,4", "expected a decimal number, was '.'"),
        ("1,2.5,3,yes,4", "expected true or false, was 'yes'"),
        ("1,2.5,3,TRUE,4", "expected true or false, was 'TRUE'"),
        ("1,2.5,3,xtrue,4", "expected true or false, was 'xtrue'"),
        ("1,0.1234567890123456789,3,true,4", "expected at most 18 decimals"),
        ("1,99999999999999999999,3,true,4", "expected a 64-bit number"),
        ("1,9.999999999999999999,3,true,4", "expected a 64-bit number at 18 decimals"),
        ("1,2.5,3,true, 4", "expected a decimal number, was ' 4'"),
        ('"1",2.5,3,true,4', "expected a decimal number"),
        ("1,²,3,true,4", "expected a decimal number, was '²'"),
    ],
)
def test_a_wrong_row_is_named(line: str, message: str) -> None:
    """By its line and by what was expected."""
    block = f"1,2.5,3,true,4\n{line}\n1,2.5,3,true,4\n".encode()
    with pytest.raises(RowError, match=message) as caught:
        parse_block(block, KINDS, 101)
    assert 102 == caught.value.line


def test_numbers_that_fit_no_common_scale_are_named() -> None:
    """The largest one of the block, as it needs the decimals of another."""
    block = b"1,10.5,3,true,4\n1,0.000000000000000001,3,true,4\n"
    with pytest.raises(RowError, match="expected numbers of 64 bits at 18 decimals") as caught:
        parse_block(block, KINDS, 1)
    assert 1 == caught.value.line


def test_bytes_that_are_no_text_are_named() -> None:
    """A file in another encoding, or not a text at all."""
    with pytest.raises(RowError, match="expected UTF-8"):
        parse_block(b"1,2.5,3,true,4\n\xff\xfe,2.5,3,true,4\n", KINDS, 1)
