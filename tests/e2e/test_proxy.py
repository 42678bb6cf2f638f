"""The proxy is the only way out, and whatever is wrong with it is said and retried, paced."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from klinetrio.sim.clock import SimClock
from klinetrio.sim.scripted import ScriptedMarket
from klinetrio.sim.socks5_faults import Mode, ProxyBehaviour
from tests.e2e.processes import daemon_process
from tests.e2e.world import LIMIT_S, REST_HOST, WS_HOST, World, open_world


START = 1_786_172_370_000
AUDITED = (str(Path(__file__).with_name("audited_daemon.py")), "run")


def quiet_market() -> ScriptedMarket:
    """Return a market in which nothing happens by itself."""
    return ScriptedMarket(["BTCUSDT"], clock=SimClock(START))


async def subscribed(world: World) -> None:
    """Wait until a daemon listens to the trades."""
    while world.exchange.subscribers("BTCUSDT") == 0:
        await trio.sleep(0.02)


async def test_nothing_ever_connects_around_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every socket goes to the proxy, no name is looked up here, before and after it is gone."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with trio.fail_after(LIMIT_S):
        async with (
            open_world(quiet_market(), tmp_path) as world,
            daemon_process(world.settings, *AUDITED) as daemon,
        ):
            await subscribed(world)
            asked = {target.host for target in world.proxy.statistics().targets}
            world.proxy.behaviour = ProxyBehaviour(Mode.REFUSE)
            world.exchange.drop_connections()
            await daemon.logged('part="connection btcusdt@aggTrade"')
            assert await daemon.end(signal.SIGTERM) == 0
            audited = {line for line in daemon.lines if line.startswith("audit")}

    assert asked == {REST_HOST, WS_HOST}
    proxy = world.proxy
    lookups = {line for line in audited if "lookup" in line}
    assert audited - lookups == {f"audit connect ('127.0.0.1', {proxy.port})"}
    # The only host names that are not the exchange's: where to serve, and the proxy's address.
    assert lookups <= {"audit lookup 127.0.0.1", "audit lookup b'127.0.0.1'"}


@pytest.mark.parametrize(
    ("mode", "complaint"),
    [
        (Mode.REFUSE, "refused fapi.sim.invalid"),
        (Mode.WRONG_AUTH, "refused fapi.sim.invalid"),
        (Mode.STALL_ACCEPTED, "gave no answer in 1 s"),
        (Mode.STALL_GREETED, "gave no answer in 1 s"),
    ],
)
async def test_a_bad_proxy_is_named_and_tried_again(
    mode: Mode,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One clear line that names the proxy, a paced retry, and all is well once it works."""
    monkeypatch.setattr("klinetrio.exchange.dial.DIAL_TIMEOUT_S", 1.0)
    with trio.fail_after(LIMIT_S):
        async with open_world(quiet_market(), tmp_path) as world:
            login = {"proxy.url": world.proxy.url.replace("://", "://somebody:secret@")}
            world.proxy.behaviour = ProxyBehaviour(mode)
            async with world.daemon(**login) as daemon:
                while sum("waiting_for" in line for line in caplog.messages) < 2:
                    assert (await daemon.client.get("/readyz")).status_code == 503
                    await trio.sleep(0.02)
                world.proxy.behaviour = ProxyBehaviour()
                await subscribed(world)

    line = next(line for line in caplog.messages if "waiting_for" in line)
    assert complaint in line
    assert f"socks5h://127.0.0.1:{world.proxy.port}" in line
    assert "delay_s=" in line
    assert "secret" not in caplog.text


async def test_no_proxy_listening_is_named_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy that is not there yet is waited for."""
    with trio.fail_after(LIMIT_S):
        async with open_world(quiet_market(), tmp_path) as world:
            listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
            port = listener.socket.getsockname()[1]
            await listener.aclose()
            async with world.daemon(**{"proxy.url": f"socks5h://127.0.0.1:{port}"}):
                while sum("waiting_for" in line for line in caplog.messages) < 2:
                    await trio.sleep(0.02)

    assert f"proxy socks5h://127.0.0.1:{port} cannot be reached" in caplog.text
    assert world.exchange.statistics().connections_accepted == 0


async def test_a_proxy_that_answers_byte_by_byte_works(tmp_path: Path) -> None:
    """However a proxy's answers are cut, REST and streams get through."""
    market = quiet_market()
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            world.proxy.behaviour = ProxyBehaviour(Mode.BYTE_BY_BYTE)
            async with world.daemon() as daemon:
                await subscribed(world)
                market.trade("BTCUSDT", "100.00", "1.000")
                await daemon.until_taken(1)
                assert len(await daemon.klines("BTCUSDT", "1m")) == 1
