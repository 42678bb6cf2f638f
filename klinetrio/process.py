"""A process's beginning and end: signals, exit status, the last line of the log."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click
import trio

from klinetrio.errors import ConfigError, GaveUp, KlinetrioError
from klinetrio.logs import log_event


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("klinetrio.process")

EXIT_FAILURE = 1
EXIT_CONFIG = 2


class Interrupted(Exception):
    """A signal ended a program that was not at its end.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


async def stop_on_signal(
    stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set ``stop`` at the first SIGINT or SIGTERM; a second one ends the process at once.

    Args:
        stop: What is set.
        task_status: Started once no signal can be missed any more.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                os._exit(128 + number)
            log_event(log, logging.INFO, "signal", number=signal.Signals(number).name)
            stop.set()


async def leave_on_signal(fn: Callable[[], Awaitable[object]]) -> None:
    """Run a function to its end, or until SIGINT or SIGTERM cancels it.

    Raises:
        Interrupted: A signal came first.
    """
    number = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            nonlocal number
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                number = await anext(signals)
                nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await fn()
        nursery.cancel_scope.cancel()
    if number is not None:
        raise Interrupted(number)


async def settle_heap(started: trio.Event) -> None:
    """Once the daemon has started, spare the garbage collector what stays for ever.

    A full collection of 1,000 symbols' books and actors takes 16 ms (measured), in which no trade
    is folded; what is frozen is not looked at again.
    """
    await started.wait()
    gc.collect()
    gc.freeze()


def run_to_the_end(fn: Callable[[], Awaitable[None]]) -> None:
    """Run an async function; end the process with the right status and one clear line."""
    try:
        trio.run(fn)
    except Interrupted as error:
        sys.exit(128 + error.number)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (the end of the process)
        causes = [each for each in _leaves(error) if isinstance(each, KlinetrioError)]
        for cause in causes:
            if isinstance(cause, ConfigError):
                fail(cause)
        if not causes:
            log_event(log, logging.ERROR, "failed", cause=error, traceback=error)
        for cause in causes:
            # A part that kept failing has a bug to show; what else is expected says all in words.
            bug = cause.__cause__ if isinstance(cause, GaveUp) else None
            log_event(log, logging.ERROR, "failed", cause=cause, traceback=bug)
        sys.exit(EXIT_FAILURE)


def fail(error: ConfigError) -> NoReturn:
    """End the process because of its configuration."""
    click.echo(f"klinetrio: configuration error: {error}", err=True)
    sys.exit(EXIT_CONFIG)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]
