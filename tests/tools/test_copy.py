"""Copies: everything, in its state or a better one, nothing lost, and proved by reading."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.kline import OPEN_TIME, Flag
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ConfigError, ScalesChanged
from klinetrio.storage.merging import merge
from klinetrio.tools import copier
from klinetrio.tools.copied import Pair, joined, open_pair
from klinetrio.tools.copier import Copier
from tests.e2e.processes import ROOT
from tests.postgres import new_schema
from tests.storage.backends import PostgresBackend, SqliteBackend, rows_of
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry, symbol
from tests.storage.test_merging import BARS


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klinetrio.storage.protocol import KlineStore
    from tests.storage.backends import Backend

LIMIT_S = 300.0


@attrs.frozen
class Databases:
    """What is copied, and where to."""

    source: Backend
    target: Backend

    def copy(self) -> Copier:
        """Copy everything."""
        with ExitStack() as stack:
            pair = open_pair(url_of(self.source), url_of(self.target), stack)
            return run(pair)

    def command(self) -> list[str]:
        """Return the arguments on the command line."""
        return ["copy", "--from", url_of(self.source), "--to", url_of(self.target)]


def run(pair: Pair) -> Copier:
    """Copy to the end."""
    copying = Copier(pair)
    for _ in copying.run():
        pass
    return copying


def url_of(backend: Backend) -> str:
    """Return the URL that names a database."""
    if isinstance(backend, SqliteBackend):
        return f"sqlite:///{backend.path}"
    assert isinstance(backend, PostgresBackend)
    return backend.url


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite", "sqlite to sqlite"])
def databases(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> Databases:
    """Return two empty databases."""
    file, server = SqliteBackend(tmp_path / "one.db"), PostgresBackend(postgres_url)
    chosen = {
        "sqlite to postgres": (file, server),
        "postgres to sqlite": (server, file),
        "sqlite to sqlite": (file, SqliteBackend(tmp_path / "other" / "two.db")),
    }
    return Databases(*chosen[request.param])


@pytest.fixture
def files(tmp_path: Path) -> Databases:
    """Return two empty files, where the kind plays no part."""
    return Databases(SqliteBackend(tmp_path / "one.db"), SqliteBackend(tmp_path / "two.db"))


@pytest.fixture
def source(files: Databases) -> Iterator[KlineStore]:
    """Return the first of two files as its owner has it: 50 minutes of a symbol."""
    with closing(files.source.opened()) as store:
        store.write(batch(*((0, bar(BASE + at * MINUTE, at)) for at in range(50))), NOTHING)
        yield store


def contents(backend: Backend, known: SymbolPeriodRegistry | None = None) -> dict[str, Any]:
    """Return all that is stored of some series, as a store gives it."""
    with closing(backend.make()) as store:
        store.open()
        store.enlist(known or registry())
        count = (known or registry()).capacity
        return {
            "closed": [rows_of(store, row) for row in range(count)],
            "live": {row: tuple(each) for row, each in store.read_live().items()},
            "checked": {row: tuple(each) for row, each in store.read_checked().items()},
            "symbols": store.known_symbols(),
        }


def test_everything_arrives_and_a_second_time_writes_nothing(databases: Databases) -> None:
    """Closed and open bars, spans known to be whole, and what nobody follows any more."""
    gone = SymbolPeriodRegistry.ranked([symbol("币安人生USDT", 7)], parse_intervals(["3m", "1M"]))
    with closing(databases.source.opened(gone)) as store:
        store.write(batch((1, bar(BASE, 9, revision=7))), batch((0, bar(BASE, 1, bits=0))))
    with closing(databases.source.opened()) as store:
        closed = batch(*((row, bar(BASE + at * MINUTE, at)) for row in (0, 4) for at in range(9)))
        store.write(closed, batch((0, bar(BASE + 9 * MINUTE, bits=Flag.COMPLETE))))
        store.write_history(NOTHING, {4: (BASE, BASE + 9 * MINUTE)})
    before = contents(databases.source), contents(databases.source, gone)

    first, second = databases.copy(), databases.copy()

    assert before == (contents(databases.target), contents(databases.target, gone))
    assert before == (contents(databases.source), contents(databases.source, gone))
    names = {("BTCUSDT", "1m"), ("ETHUSDT", "5m"), ("币安人生USDT", "3m"), ("币安人生USDT", "1M")}
    assert names == {(each.symbol, each.interval) for each in first.outcomes}
    assert (19, 19) == (first.done, sum(each.written for each in first.outcomes))
    assert (0, {"equal"}) == (
        sum(each.written for each in second.outcomes),
        {each.verdict for each in second.outcomes},
    )
    assert first.marks is not None
    assert second.marks is not None
    assert [(2, 1, None), (0, 0, None)] == [
        attrs.astuple(each) for each in (first.marks, second.marks)
    ]


# Both series are emptied by each example, so that they can share two databases.
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bars=st.tuples(BARS, BARS),
    others=st.tuples(BARS, BARS),
    page=st.integers(1, 5),
)
def test_each_bar_arrives_in_its_state_or_a_better_one(
    databases: Databases,
    bars: tuple[list[list[int]], ...],
    others: tuple[list[list[int]], ...],
    page: int,
) -> None:
    """Nothing of the target is lost, and the second run writes nothing; pages of any size."""
    for backend, states in ((databases.source, bars), (databases.target, others)):
        with closing(backend.opened()) as store:
            backend.query("DELETE FROM klines")
            pairs = [(row, each) for row, rows in zip((0, 4), states, strict=True) for each in rows]
            store.write(batch(*pairs), NOTHING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copier, "PAGE_BARS", page)
        first, second = databases.copy(), databases.copy()

    found = contents(databases.target)["closed"]
    for row, ours, theirs in zip((0, 4), bars, others, strict=True):
        stored = {each[OPEN_TIME]: each for each in found[row]}
        assert stored.keys() == {each[OPEN_TIME] for each in [*ours, *theirs]}
        assert all(rank(stored[each[OPEN_TIME]]) >= rank(each) for each in [*ours, *theirs])
        assert all(each in [*ours, *theirs] for each in stored.values())
    assert 0 == sum(each.written for each in second.outcomes)
    assert [each.is_good for each in first.outcomes] == [each.is_good for each in second.outcomes]
    assert first.done == sum(map(len, bars))


def rank(row: list[int]) -> tuple[int, ...]:
    """Return by what the better of two states is told."""
    return row[-1] & Flag.SETTLED, row[-1] & Flag.COMPLETE, row[-1] >> 8, row[7]


@pytest.mark.parametrize(
    ("target", "verdict", "counts"),
    [
        ([], "equal", (2, 0, 0, 0)),
        ([bar(BASE, 5, bits=Flag.FINAL)], "equal", (2, 0, 0, 0)),
        ([bar(BASE, 5, revision=1)], "better", (1, 1, 0, 0)),
        ([bar(BASE - MINUTE)], "more", (2, 0, 1, 0)),
        ([bar(BASE - MINUTE), bar(BASE, 5, revision=1)], "better and more", (1, 1, 1, 0)),
        ([bar(BASE, 5)], "DIFFERENT", (1, 0, 0, 1)),
    ],
)
def test_the_verdict_says_how_both_stand(
    files: Databases, target: list[list[int]], verdict: str, counts: tuple[int, ...]
) -> None:
    """Of two bars in the source; a bar of other numbers in a state as good is no success."""
    with closing(files.source.opened()) as store:
        store.write(batch((0, bar(BASE)), (0, bar(BASE + MINUTE))), NOTHING)
    with closing(files.target.opened()) as store:
        store.write(batch(*((0, each) for each in target)), NOTHING)

    (outcome,) = files.copy().outcomes

    assert (verdict, 2) == (outcome.verdict, outcome.bars)
    assert counts == (outcome.written, outcome.kept, outcome.more, outcome.different)
    assert (verdict == "equal") == (outcome.source_sum == outcome.target_sum)
    assert (verdict != "DIFFERENT") == outcome.is_good


@pytest.mark.parametrize("scales", [(2, 3), (4, 3), (2, 5), (3, 0), (0, 4)])
def test_the_larger_scales_hold(databases: Databases, scales: tuple[int, int]) -> None:
    """Bars are multiplied, in the source's hands or the target's; numbers stay what they are."""
    ours, theirs = symbol("BTCUSDT", 1), symbol("BTCUSDT", 1, *scales)
    largest = max(2, scales[0]), max(3, scales[1])
    with closing(databases.source.opened(registry(ours))) as store:
        store.write(batch((0, bar(BASE, 5))), batch((1, bar(BASE, 5, bits=0))))
    with closing(databases.target.opened(registry(theirs))) as store:
        store.write(batch((0, bar(BASE + MINUTE, 5))), NOTHING)

    (closed, _open) = databases.copy().outcomes

    merged = registry(symbol("BTCUSDT", 1, *largest))
    found = contents(databases.target, merged)
    assert (1, "more") == (closed.written, closed.verdict)
    assert [[5 * 10 ** (largest[0] - 2), 5 * 10 ** (largest[0] - scales[0])]] == [
        [each[1] for each in found["closed"][0]]
    ]
    assert 9 * 10 ** (largest[1] - 3) == found["closed"][0][0][5]
    assert 5 * 10 ** (largest[0] - 2) == found["live"][1][1]
    again = databases.copy()
    assert 0 == sum(each.written for each in again.outcomes)
    assert (2, 3) == scales_in(databases.source)


def scales_in(backend: Backend) -> tuple[object, ...]:
    """Return the decimals that a database has of its one symbol."""
    return backend.query("SELECT price_scale, quantity_scale FROM symbols")[0]


def test_a_number_that_does_not_fit_fails_its_series_alone(files: Databases) -> None:
    """Named, and the others are copied; an open bar is told as well."""
    with closing(files.source.opened()) as store:
        store.write(batch((0, bar(BASE, 2**62)), (3, bar(BASE))), batch((1, bar(BASE, 2**62))))
    grown = registry(symbol("BTCUSDT", 1, 3, 3), symbol("ETHUSDT", 2))
    files.target.opened(grown).close()

    copying = files.copy()

    large, _, good = copying.outcomes
    assert ("FAILED", "equal") == (large.verdict, good.verdict)
    assert large.fault is not None
    assert "to fit 64 bits when multiplied by 10" in large.fault
    assert copying.marks is not None
    assert copying.marks.fault == "BTCUSDT 5m"
    assert [[], [bar(BASE)]] == [contents(files.target, grown)["closed"][row] for row in (0, 3)]


def test_a_target_that_cannot_be_multiplied_is_left_alone(files: Databases) -> None:
    """The source has more decimals, and the target a number without room for them."""
    with closing(files.source.opened(registry(symbol("BTCUSDT", 1, 3, 3)))) as store:
        store.write(batch((0, bar(BASE))), NOTHING)
    with closing(files.target.opened(registry(symbol("BTCUSDT", 1)))) as store:
        store.write(batch((0, bar(BASE, 2**62))), NOTHING)

    ended = command(files)

    assert ended.returncode == 1
    assert "bars of BTCUSDT in --to do not take the decimals that --from has" in ended.stderr
    assert [[bar(BASE, 2**62)]] == contents(files.target, registry(symbol("BTCUSDT", 1)))["closed"][
        :1
    ]


def test_a_copy_that_was_broken_off_goes_on(
    files: Databases, source: KlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is not written again."""
    monkeypatch.setattr(copier, "PAGE_BARS", 7)
    with ExitStack() as stack:
        copying = Copier(open_pair(url_of(files.source), url_of(files.target), stack))
        steps = copying.run()
        while copying.done < 21:
            next(steps)
    assert 21 == len(contents(files.target)["closed"][0])

    (outcome,) = files.copy().outcomes

    assert (29, 50, "equal") == (outcome.written, outcome.bars, outcome.verdict)


def test_a_source_that_grows_meanwhile_is_brought_by_the_next_run(
    files: Databases, source: KlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is there and proved; what came behind is the next run's."""
    monkeypatch.setattr(copier, "PAGE_BARS", 7)
    with ExitStack() as stack:
        copying = Copier(open_pair(url_of(files.source), url_of(files.target), stack))
        for number, _ in enumerate(copying.run()):
            # Behind, where it has been, and ahead, where it will come.
            late = bar(BASE - (number + 1) * MINUTE, number)
            revised = bar(BASE, 1_000 + number, revision=number + 1)
            source.write(batch((0, late), (0, revised)), NOTHING)
            if number < 20:
                source.write(batch((0, bar(BASE + (50 + number) * MINUTE, number))), NOTHING)
    (first,) = copying.outcomes
    (second,) = files.copy().outcomes

    assert ("equal", "equal") == (first.verdict, second.verdict)
    assert first.bars < second.bars
    assert second.written > 1
    assert contents(files.source)["closed"] == contents(files.target)["closed"]


def test_bars_that_are_multiplied_meanwhile_end_it(files: Databases, source: KlineStore) -> None:
    """Before one of them is written ten times too large."""
    with ExitStack() as stack:
        pair = open_pair(url_of(files.source), url_of(files.target), stack)
        source.regrow([symbol("BTCUSDT", 1, 3, 3)])
        with pytest.raises(ScalesChanged):
            run(pair)
    assert [] == contents(files.target)["closed"][0]


def test_a_target_that_changes_meanwhile_is_noticed(files: Databases, source: KlineStore) -> None:
    """A bar that somebody took away is missing when the series is read once more."""
    with ExitStack() as stack:
        copying = Copier(open_pair(url_of(files.source), url_of(files.target), stack))
        for _ in copying.run():
            if copying.done and not copying.outcomes:
                files.target.query("DELETE FROM klines WHERE open = 0")
    (outcome,) = copying.outcomes

    assert (False, "FAILED") == (outcome.is_good, outcome.verdict)
    assert outcome.fault is not None
    assert outcome.fault.startswith("expected 50 bars of checksum ")
    assert ", were 49 of " in outcome.fault


def test_open_bars_of_the_target_stay_if_they_are_younger(files: Databases) -> None:
    """Each series by itself; of two with the same trades the source's is the newer one."""
    young, old = bar(BASE + MINUTE, 1, bits=0), bar(BASE, 2, bits=Flag.COMPLETE)
    cut_off = [*old[:-1], Flag.COMPLETE | Flag.FEED_DOWN]
    with closing(files.source.opened()) as store:
        store.write(NOTHING, batch((0, young), (1, old), (2, old), (3, cut_off)))
    with closing(files.target.opened()) as store:
        store.write(NOTHING, batch((0, old), (1, young), (3, old)))

    first, second = files.copy().marks, files.copy().marks

    assert first is not None
    assert second is not None
    assert [3, 0] == [first.live, second.live]
    expected = {0: tuple(young), 1: tuple(young), 2: tuple(old), 3: tuple(cut_off)}
    assert expected == contents(files.target)["live"]


@pytest.mark.parametrize(
    ("span", "other", "expected"),
    [
        ((1, 5), None, (1, 5)),
        ((1, 5), (3, 9), (1, 9)),
        ((1, 5), (5, 9), (1, 9)),
        ((3, 9), (1, 5), (1, 9)),
        ((3, 4), (1, 5), (1, 5)),
        # What lies between is known of neither.
        ((1, 5), (6, 8), (1, 5)),
        ((1, 5), (6, 20), (6, 20)),
    ],
)
def test_two_spans_are_one_if_they_touch(
    span: tuple[int, int], other: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    """Else the longer one stands."""
    assert expected == joined(span, other)


def test_the_memory_is_a_page(
    files: Databases, source: KlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the target has a thousand bars between two of the source."""
    monkeypatch.setattr(copier, "PAGE_BARS", 10)
    with closing(files.target.opened()) as store:
        between = (bar(BASE + 1 + at) for at in range(1_000))
        store.write(batch(*((0, each) for each in between)), NOTHING)
    sizes: list[int] = []

    def measure(ours: Any, theirs: Any) -> Any:
        sizes.append(max(len(ours), len(theirs)))
        return merge(ours, theirs)

    monkeypatch.setattr(copier, "merge", measure)
    (outcome,) = files.copy().outcomes

    assert 10 == max(sizes)
    assert (50, 50, 1_000, "more") == (
        outcome.bars,
        outcome.written,
        outcome.more,
        outcome.verdict,
    )


def command(files: Databases) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return called(url_of(files.source), url_of(files.target))


def called(source: str, target: str) -> subprocess.CompletedProcess[str]:
    """Run the command for any two URLs."""
    return subprocess.run(
        [*program(""), "copy", "--from", source, "--to", target],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=LIMIT_S,
        check=False,
    )


def program(held: str) -> list[str]:
    """Return the command line before its arguments, with some lines of Python that go first."""
    return [sys.executable, "-c", f"{held}\nfrom klinetrio.cli import main\nmain()"]


def environment() -> dict[str, str]:
    """Return ours without settings."""
    return {name: value for name, value in os.environ.items() if "KLINETRIO" not in name}


def test_the_table_shows_each_series_and_the_sum(files: Databases, source: KlineStore) -> None:
    """On standard output; how it went is on the other."""
    ended = command(files)

    heading, line, total = (each.split() for each in ended.stdout.splitlines())
    assert ended.returncode == 0
    assert ["symbol", "interval", "bars", "written", "kept", "more", "source", "target"] == heading
    assert ["BTCUSDT", "1m", "50", "50", "0", "0"] == line[:6]
    assert (line[6], "equal") == (line[7], line[8])
    assert ["all", "50", "50", "0", "0", "1", "equal"] == total
    assert "copied series=1 bars=50 written=50 open_bars_written=0" in ended.stderr


def test_what_is_different_is_status_1(files: Databases, source: KlineStore) -> None:
    """The target's stay, and the series is named."""
    with closing(files.target.opened()) as store:
        store.write(batch((0, bar(BASE, 99))), NOTHING)

    ended = command(files)

    assert ended.returncode == 1
    assert "series_different symbol=BTCUSDT interval=1m bars=1" in ended.stderr
    assert "for 1 of 1 series" in ended.stderr
    assert "DIFFERENT" in ended.stdout
    assert "raceback" not in ended.stderr
    assert bar(BASE, 99) == contents(files.target)["closed"][0][0]


def test_a_target_that_is_claimed_is_status_1(files: Databases, source: KlineStore) -> None:
    """A daemon folds into it; nothing is written."""
    with closing(files.target.opened()) as store, store.claim():
        ended = command(files)

        assert ended.returncode == 1
        assert "to be free, was in use by the daemon of process" in ended.stderr
        assert [] == rows_of(store)


def test_a_target_is_claimed_while_it_is_copied_to(files: Databases, source: KlineStore) -> None:
    """No daemon starts on it meanwhile; a source may be claimed all along."""
    with source.claim(), ExitStack() as stack:
        pair = open_pair(url_of(files.source), url_of(files.target), stack)
        assert files.target.make().is_claimed()
        run(pair)
    assert not files.target.make().is_claimed()


@pytest.mark.parametrize(
    ("source_url", "target_url", "words"),
    [
        ("sqlite:///{folder}/none.db", "sqlite:///{folder}/new.db", "--from: expected a database"),
        ("sqlite:///{folder}/empty.db", "sqlite:///{folder}/new.db", "--from: expected a database"),
        ("sqlite:///{folder}/one.db", "sqlite:///{folder}/one.db", "--to: expected another"),
        ("sqlite:///{folder}/one.db", "sqlite:///{folder}/link.db", "--to: expected another"),
        ("mysql://u:secret@h/d", "sqlite:///{folder}/new.db", "--from: expected sqlite:///path or"),
        ("sqlite:///{folder}/one.db", "sqlite://", "--to: expected sqlite:///path or"),
        ("sqlite:///{folder}/one.db", "sqlite:///:memory:", "--to: expected sqlite:///path of"),
        ("postgresql://u:secret@[h/d", "sqlite:///{folder}/new.db", "--from: expected a URL that"),
    ],
)
def test_what_was_asked_wrongly_is_status_2_and_makes_nothing(
    source: KlineStore, tmp_path: Path, source_url: str, target_url: str, words: str
) -> None:
    """One line that says what; no password, no traceback, no new database."""
    (tmp_path / "empty.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "one.db")
    before = sorted(each.name for each in tmp_path.iterdir())
    urls = [url.format(folder=tmp_path) for url in (source_url, target_url)]

    ended = called(*urls)

    assert (2, True) == (ended.returncode, words in ended.stderr), ended.stderr
    assert "secret" not in ended.stderr + ended.stdout
    assert "raceback" not in ended.stderr
    assert before == sorted(each.name for each in tmp_path.iterdir())
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_an_empty_schema_is_no_source_and_stays_empty(
    postgres_url: str, postgres_server: str, files: Databases
) -> None:
    """A database without our tables; two names of one schema are one database."""
    empty = PostgresBackend(postgres_url)
    with ExitStack() as stack, pytest.raises(ConfigError, match="--from: expected a database"):
        open_pair(postgres_url, url_of(files.target), stack)
    assert [] == empty.query(
        "SELECT 1 FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    )
    with new_schema(postgres_server) as other:
        PostgresBackend(other).opened().close()
        localhost = other.replace("127.0.0.1", "localhost")
        with ExitStack() as stack, pytest.raises(ConfigError, match="--to: expected another"):
            open_pair(other, localhost, stack)


def test_a_password_that_is_refused_is_not_shown(files: Databases, postgres_server: str) -> None:
    """Nor is that of a database which is missing; status 1."""
    host = postgres_server.rpartition("@")[2].rpartition("/")[0]
    missing = f"postgresql://postgres:secret@{host}/nowhere"

    ended = called(missing, url_of(files.target))

    assert (1, True) == (
        ended.returncode,
        '"nowhere" does not exist' in ended.stderr.replace("\\", ""),
    )
    assert "secret" not in ended.stderr + ended.stdout


def test_an_interval_of_the_future_is_not_left_behind(files: Databases, source: KlineStore) -> None:
    """What this version cannot read is told, not skipped."""
    files.source.query("UPDATE klines SET interval = '7m'")

    ended = command(files)

    assert ended.returncode == 1
    assert "expected known intervals, were 7m" in ended.stderr


HELD = """
import time
from klinetrio.tools import copier
copier.PAGE_BARS = 7
real = copier.Copier._write
def write(self, row, bars):
    real(self, row, bars)
    if self.done >= 14:
        print("written", flush=True)
        time.sleep(1 if {gentle} else 600)
copier.Copier._write = write
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_ended_in_the_middle_goes_on(
    files: Databases, source: KlineStore, number: signal.Signals
) -> None:
    """Its claim ends with it, and what it wrote stays."""
    gentle = number == signal.SIGINT
    with subprocess.Popen(
        [*program(HELD.format(gentle=gentle)), *files.command()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"written\n"
        running.send_signal(number)
        running.communicate(timeout=LIMIT_S)
    assert running.returncode == (128 + number if gentle else -number)

    (outcome,) = files.copy().outcomes

    assert 0 < outcome.written <= 50 - 21
    assert "equal" == outcome.verdict
