"""A log line is one line, always, and floods are held back."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.errors import ConfigError
from klinetrio.logs import QUIET_S, LineFormatter, QuietLog, log_event, setup_logging


if TYPE_CHECKING:
    from collections.abc import Iterator


class Lines:
    """A logger of its own and what it has written."""

    def __init__(self, name: str = "klinetrio.test") -> None:
        self.stream = io.StringIO()
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(LineFormatter())
        # Of no hierarchy, so that nobody else hears of it.
        self.log = logging.Logger(name)  # noqa: LOG001
        self.log.addHandler(handler)

    @property
    def text(self) -> str:
        """All that was written."""
        return self.stream.getvalue()

    def messages(self) -> list[str]:
        """Return what follows time, level and logger in every line."""
        return [line.split(" ", 3)[3] for line in self.text.splitlines()]


@pytest.fixture
def lines() -> Lines:
    """Return a fresh logger."""
    return Lines()


@pytest.fixture
def root_restored() -> Iterator[None]:
    """Put the logging of the process back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("klinetrio")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


def test_an_event_reads_as_its_facts_in_order(lines: Lines) -> None:
    """Time, level, logger, event, then key=value."""
    log_event(lines.log, logging.WARNING, "connected", stream="btcusdt@aggTrade", n=3, s=0.12345)
    moment, rest = lines.text.split(" ", 1)
    assert "warning test connected stream=btcusdt@aggTrade n=3 s=0.123\n" == rest
    assert len("2026-11-21T02:21:33.123Z") == len(moment)
    assert moment.endswith("Z")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("a=b", '"a=b"'),
        ("币安人生USDT", "币安人生USDT"),
        ("币 安", '"币 安"'),
        ("line\nbreak", '"line\\nbreak"'),
        ("bell\x1b[31m", '"bell\\u001b[31m"'),
        ("next\x85line", '"next\\u0085line"'),
        ("separator\u2028here", '"separator\\u2028here"'),
        (None, "None"),
        (True, "True"),
        (1e-9, "0.000"),
        (["a", 1], "\"['a', 1]\""),
    ],
)
def test_a_value_is_quoted_where_it_must_be(lines: Lines, value: object, expected: str) -> None:
    """Plain values stay plain; what would confuse a reader or a terminal is quoted."""
    log_event(lines.log, logging.INFO, "event", value=value)
    assert [f"event value={expected}"] == lines.messages()


@given(st.text(), st.text())
def test_any_value_gives_one_line_that_can_be_read_back(first: str, second: str) -> None:
    """No text from outside breaks a line, hides a fact or reaches the terminal raw."""
    lines = Lines()
    log_event(lines.log, logging.INFO, "event", first=first, second=second)
    assert len(lines.text.splitlines()) == 1
    assert lines.text.removesuffix("\n").isprintable()
    rest = lines.messages()[0].removeprefix("event first=")
    if rest.startswith('"'):
        read, end = json.JSONDecoder().raw_decode(rest)
        assert first == read
        assert rest[end:].startswith(" second=")
    else:
        assert rest.startswith(f"{first} second=")


@given(st.text())
def test_a_line_of_a_library_is_one_line_too(text: str) -> None:
    """Whatever a library logs through the root is a single printable line."""
    lines = Lines("hypercorn.error")
    lines.log.error("said %s", text)
    assert len(lines.text.splitlines()) == 1
    assert lines.text.removesuffix("\n").isprintable()
    assert " error hypercorn.error said " in lines.text


def test_a_traceback_is_one_value(lines: Lines) -> None:
    """The whole of it is there, in the one line."""

    def fail() -> None:
        raise ValueError("first\nsecond")

    try:
        fail()
    except ValueError as error:
        log_event(lines.log, logging.ERROR, "failed", part="x", traceback=error)
    assert len(lines.text.splitlines()) == 1
    message, _, trace = lines.messages()[0].partition(" traceback=")
    assert "failed part=x" == message
    assert "ValueError: first\nsecond" in json.loads(trace)
    assert "in fail" in json.loads(trace)


def test_no_traceback_is_no_fact(lines: Lines) -> None:
    """An expected error is logged without one."""
    log_event(lines.log, logging.ERROR, "failed", traceback=None)
    assert ["failed"] == lines.messages()


def test_a_percent_sign_is_only_a_sign(lines: Lines) -> None:
    """Texts are never taken for formats."""
    log_event(lines.log, logging.INFO, "event", value="100%s%d")
    assert ["event value=100%s%d"] == lines.messages()


def test_the_level_holds_for_us_and_libraries_only_warn(root_restored: None) -> None:
    """Debugging ourselves does not mean to read the chatter of everybody else."""
    stream = io.StringIO()
    setup_logging("debug", stream)
    logging.getLogger("klinetrio.feed").debug("ours")
    logging.getLogger("trio-websocket").info("theirs")
    logging.getLogger("trio-websocket").warning("theirs, warning")
    assert ["ours", "theirs, warning"] == [
        line.split(" ", 3)[3] for line in stream.getvalue().splitlines()
    ]


@pytest.mark.parametrize("level", ["INFO", "trace", "", "10"])
def test_an_unknown_level_is_refused(level: str) -> None:
    """The error names the key, the value and what would do."""
    with pytest.raises(ConfigError, match=r"log.level: expected one of debug, info") as caught:
        setup_logging(level)
    assert level == caught.value.value


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def quiet_on(lines: Lines) -> tuple[QuietLog, Clock]:
    """Return a quiet log and its clock."""
    clock = Clock()
    return QuietLog(lines.log, clock), clock


def test_a_flood_is_one_line_a_minute_with_its_number(lines: Lines) -> None:
    """The first comes at once, the next after a minute with what was held back in between."""
    quiet, clock = quiet_on(lines)
    for _ in range(5):
        quiet.event(logging.WARNING, "bad_frame", "garbage", stream="a")
    assert ["bad_frame kind=garbage stream=a"] == lines.messages()

    clock.now += QUIET_S - 0.001
    quiet.event(logging.WARNING, "bad_frame", "garbage", stream="b")
    assert len(lines.messages()) == 1

    clock.now += 0.001
    quiet.event(logging.WARNING, "bad_frame", "garbage", stream="c")
    clock.now += QUIET_S
    quiet.event(logging.WARNING, "bad_frame", "garbage", stream="d")
    expected = [
        "bad_frame kind=garbage stream=c suppressed=5",
        "bad_frame kind=garbage stream=d",
    ]
    assert expected == lines.messages()[1:]


def test_kinds_are_quiet_by_themselves(lines: Lines) -> None:
    """A flood of one kind does not hide another."""
    quiet, _ = quiet_on(lines)
    for kind in ("garbage", "symbol", "garbage", "symbol"):
        quiet.event(logging.WARNING, "bad_frame", kind)
    assert ["bad_frame kind=garbage", "bad_frame kind=symbol"] == lines.messages()


def test_the_number_of_kinds_is_bounded(lines: Lines) -> None:
    """Kinds made from outside data cannot eat the memory, and known ones go on."""
    quiet, clock = quiet_on(lines)
    for number in range(1_500):
        quiet.event(logging.WARNING, "bad", f"kind{number}")
    assert len(lines.messages()) == 1_000
    assert len(quiet._last) == len(quiet._suppressed) == 1_000

    clock.now += QUIET_S
    quiet.event(logging.WARNING, "bad", "kind7")
    assert "bad kind=kind7" == lines.messages()[-1]


def test_what_is_not_logged_costs_no_formatting(lines: Lines) -> None:
    """Below the level nothing is turned into text."""

    class Precious:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    lines.log.setLevel(logging.ERROR)
    facts: dict[str, Any] = {"value": Precious()}
    log_event(lines.log, logging.INFO, "event", **facts)
    assert not lines.text
