"""Playing recorded frames."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.sim import RecordedMarket, SimTrade, open_simulated_exchange
from klinetrio.sim.recording import read_recording


if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from trio.testing import MockClock

    from klinetrio.sim.market import Frame

    Bounded = Callable[[], AbstractContextManager[Any]]

# Beside the repository, never in it.
DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recordings in {DATA}")

T0 = 1_723_161_256_322


def event(agg_id: int, offset: int, symbol: str = "BTCUSDT") -> str:
    """Return a recorded event, with spaces where a recorder might have them."""
    return (
        f'{{"e":"aggTrade","E":{T0 + offset + 100},"a":{agg_id},"s":"{symbol}","p":"61800.30",'
        f'"q":"0.205", "f":{agg_id},"l":{agg_id},"T": {T0 + offset},"m":false}}'
    )


LINES = [
    "wss://fstream.binance.com/stream?streams=btcusdt@aggTrade <-> 1626992740.179554",
    f"1723161256.422: {event(1, 0)}",
    f'1723161256522000000 {{"stream":"btcusdt@aggTrade","data":{event(2, 100)}}}',
    '1626992741.06217: {"stream":"sushiusdt@bookTicker","data":{"e":"bookTicker","u":6}}',
    f'{{"type":"aggTrade","recv":1781545560.48,"data":{event(3, 200)}}}',
    event(3, 200),
    '{"broken',
    event(4, 1_200),
]


@pytest.fixture(params=["plain", "gzip"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a file in which all known layouts are mixed."""
    raw = "\n".join(LINES).encode()
    file = tmp_path / "frames"
    file.write_bytes(gzip.compress(raw) if request.param == "gzip" else raw)
    return file


def test_all_layouts_are_read(path: Path) -> None:
    """Events are the recorder's bytes; everything else is counted."""
    recording = read_recording(path)
    expected = [event(1, 0), event(2, 100), event(3, 200), event(3, 200), event(4, 1_200)]
    assert [each.encode() for each in expected] == [each.payload for each in recording.events]
    assert recording.skipped == 3
    assert recording.symbols == ["BTCUSDT"]


def test_file_without_trades_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    empty = tmp_path / "empty"
    empty.write_text("nothing\n")
    with pytest.raises(ValueError, match="empty"):
        read_recording(empty)


async def play(market: RecordedMarket) -> list[tuple[float, Frame]]:
    """Play to the end; return frames and when they came."""
    played: list[tuple[float, Frame]] = []
    await market.run(lambda frame: played.append((trio.current_time(), frame)))
    return played


async def test_plays_verbatim_at_its_speed(autojump_clock: MockClock, path: Path) -> None:
    """At original times the clock stands at the first frame until playback starts."""
    market = RecordedMarket(path, speed=2.0)
    assert market.clock.now_ms() == T0 + 100
    await trio.sleep(60)
    assert market.clock.now_ms() == T0 + 100
    start = trio.current_time()
    market.subscribed("BTCUSDT")
    played = await play(market)
    assert market.finished.is_set()
    offsets = [pytest.approx(when - start, abs=0.002) for when, _ in played]
    assert offsets == [0.0, 0.05, 0.1, 0.1, 0.6]
    assert played[1][1].payload == event(2, 100).encode()
    trades = market.trades_of("BTCUSDT")
    assert [trade.agg_id for trade in trades] == [1, 2, 3, 4]
    assert trades[0] == SimTrade(1, 6_180_030, 205, 205, 1, 1, T0, False)


async def test_shifted_changes_the_times_only(autojump_clock: MockClock, path: Path) -> None:
    """``E`` and ``T`` move to the present, together; every other byte stays."""
    market = RecordedMarket(path, shifted=True, start_when_subscribed=False)
    now = market.clock.now_ms()
    played = await play(market)
    shift = now - T0 - 100
    assert shift > 0
    for (_, frame), original in zip(played, read_recording(path).events, strict=True):
        moved = orjson.loads(frame.payload)
        assert moved["E"] == original.fields["E"] + shift
        assert moved["T"] == original.fields["T"] + shift
        assert {**moved, "E": 0, "T": 0} == {**original.fields, "E": 0, "T": 0}
        assert len(frame.payload) == len(original.payload)


@needs_data
async def test_recorded_day_folds_to_the_official_bars(bounded: Bounded, open_stream: Any) -> None:
    """Frames of 2024-08-08, through the exchange: the true bars are Binance's own, nine fields."""
    market = RecordedMarket(DATA / "derived_um_btcusdt_20240808_agg100ms.jsonl.gz", speed=60)
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            url = f"{exchange.ws_url}/ws/btcusdt@aggTrade"
            async with open_stream(url) as websocket:
                count = len(
                    read_recording(DATA / "derived_um_btcusdt_20240808_agg100ms.jsonl.gz").events
                )
                got = [orjson.loads(await websocket.get_message())["a"] for _ in range(count)]
    assert got == list(range(1, count + 1))
    official = (DATA / "official_um_btcusdt_1m_20240808_2354.csv").read_text().split()
    for line in official[1:6]:
        fields = line.split(",")
        opened = int(fields[0])
        (row,) = market.true_klines("BTCUSDT", INTERVALS["1m"], opened, opened + MINUTE)
        columns = [fields[n] for n in (1, 2, 3, 4, 5, 7, 8, 9, 10)]
        decimals = [2, 2, 2, 2, 3, 5, 0, 3, 5]
        expected = [round(float(c) * 10**d) for c, d in zip(columns, decimals, strict=True)]
        assert expected == list(row[1:10])


@needs_data
@pytest.mark.parametrize(
    ("name", "events", "symbols"),
    [
        ("cryptofeed_um_20210722_raw.ws.gz", 91, 4),
        ("um_solusdt_20260615_rollover_snippet.jsonl", 12, 1),
        ("derived_um_btcusdt_20240808_one_agg_per_trade.jsonl.gz", 21_313, 1),
        ("um_frames_2026_singles.jsonl", None, None),
    ],
)
def test_real_recordings_are_read(name: str, events: int | None, symbols: int | None) -> None:
    """All layouts at hand; payloads are found in the file as they stand."""
    recording = read_recording(DATA / name)
    raw = (DATA / name).read_bytes()
    raw = gzip.decompress(raw) if name.endswith("gz") else raw
    assert events in {None, len(recording.events)}
    assert symbols in {None, len(recording.symbols)}
    assert all(each.payload in raw for each in recording.events[:50])
