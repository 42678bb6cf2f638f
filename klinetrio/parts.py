"""All parts of a running daemon, as the composition root puts them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.supervise import Supervision


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.hub import PushHub
    from klinetrio.config import Config
    from klinetrio.domain.listing import Listing
    from klinetrio.engine.engine import Engine
    from klinetrio.engine.swapper import Swapper
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.connection import FeedContext
    from klinetrio.exchange.feed import SupervisedLink
    from klinetrio.exchange.rest import BinanceRest
    from klinetrio.recovery.auditor import Auditor
    from klinetrio.recovery.keeper import HistoryKeeper
    from klinetrio.recovery.repair import RepairDesk
    from klinetrio.recovery.shelf import PastShelf
    from klinetrio.recovery.watch import SilenceWatch
    from klinetrio.storage.history import History
    from klinetrio.storage.hold import Hold
    from klinetrio.storage.persister import Persister


@attrs.frozen
class Parts:
    """What runs, and what supervises it.

    Attributes:
        supervisions: Of the parts that exist once, by name.
        started: Trio time of the start.
    """

    config: Config
    clock: ExchangeClock
    rest: BinanceRest
    engine: Engine
    listing: Listing
    links: Sequence[SupervisedLink]
    feed: FeedContext
    swapper: Swapper
    persister: Persister
    history: History
    repair: RepairDesk
    shelf: PastShelf
    watch: SilenceWatch
    keeper: HistoryKeeper
    auditor: Auditor
    hub: PushHub
    hold: Hold
    supervisions: dict[str, Supervision] = attrs.field(factory=dict)
    started: float = attrs.field(factory=trio.current_time)

    def supervision(self, name: str) -> Supervision:
        """Return the supervision of a part, made at the first call."""
        return self.supervisions.setdefault(name, Supervision(name))
