"""The project's sessions: ``nox`` runs tests, clients, lint, types and layers."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import nox


PYPROJECT = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PREFIX = "Programming Language :: Python :: 3."


def supported_pythons() -> list[str]:
    """Return the versions named in the classifiers, less those whose command is there but broken.

    A missing interpreter is skipped by nox, by name; but a version manager's shim is found and
    then refuses to run, which nox would take for an error.
    """
    versions = [
        f"3.{each.removeprefix(PREFIX)}" for each in PROJECT["classifiers"] if PREFIX in each
    ]
    working = []
    for version in versions:
        command = shutil.which(f"python{version}")
        if command and subprocess.run([command, "-V"], capture_output=True, check=False).returncode:
            print(f"nox > python{version} does not run here: its sessions are skipped.")
        else:
            working.append(version)
    return working


PYTHONS = supported_pythons()
SOURCES = sorted(Path("klinetrio").rglob("*.py"))

# Of flake8-async, what is left out and why.
ASYNC_DISABLED = (
    "ASYNC110",  # ruff has it
    "ASYNC114",  # wants a list of all functions with task_status
    "ASYNC124",  # Quart and Hypercorn want async functions that do not await
    "ASYNC128",  # does not see task_status handed on by keyword
    "ASYNC9",  # checkpoints in every path: rules for libraries, not for daemons
)

nox.options.sessions = ["tests", "clients", "lint", "types", "layers"]
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after ``--`` go to pytest."""
    session.install("-e", ".[test]")
    # As many at once as there are cores: most of them wait for a clock more than they compute.
    session.run("pytest", "-n", "auto", "--dist", "worksteal", *session.posargs)


@nox.session
def clients(session: nox.Session) -> None:
    """Run programs written for the exchange, unchanged, against a daemon."""
    session.install("-e", ".[test]", *nox.project.dependency_groups(PYPROJECT, "clients"))
    # These libraries leave sockets and threads behind, which are not ours to warn about.
    ours = ("-p", "no:unraisableexception", "-p", "no:threadexception")
    session.run("pytest", *ours, "tests/clients", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and show which lines they leave out."""
    session.install("-e", ".[test]", "coverage")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report", "--show-missing", "--skip-covered")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, asynchronous pitfalls and spelling."""
    session.install(".[lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("flake8-async", "--disable", ",".join(ASYNC_DISABLED), *map(str, SOURCES))
    session.run("codespell", "klinetrio", "tests", "conf", "docs", "README.md", "CHANGELOG.md")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install("-e", ".[test,types]", "nox")
    session.run("mypy")


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports go one way."""
    session.install("-e", ".[layers]")
    session.run("lint-imports")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; arguments after ``--`` choose benchmarks (fold, live, push, archive, stores)."""
    session.install("-e", ".[test]")
    for name in session.posargs or ["fold", "live", "push", "archive", "stores"]:
        session.run("python", "-m", f"tests.bench.{name}")


@nox.session
def chaos(session: nox.Session) -> None:
    """Let everything go wrong; arguments after ``--`` as in ``--seed 3 --minutes 10``.

    With ``kills`` as the first one nothing but kills: ``kills --seed 3 --kills 100``.
    """
    session.install("-e", ".[test]")
    kills = session.posargs[:1] == ["kills"]
    program, arguments = ("kills", session.posargs[1:]) if kills else ("run", session.posargs)
    session.run("python", "-m", f"tests.chaos.{program}", *arguments)
