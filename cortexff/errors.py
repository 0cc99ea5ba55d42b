"""The one exception that a user is meant to read, and the commands that print it."""

from __future__ import annotations

import sys

import click


class CortexffError(Exception):
    """Something the user can mend: one line that names the thing, the value found and the values allowed.

    The command line prints it without a traceback and exits with code 2.
    """


def run_command(command: click.Command, module: str) -> None:
    """Run a command line as ``python -m module``: a :class:`CortexffError` becomes one line and exit code 2."""
    try:
        command(prog_name=f"python -m {module}")
    except CortexffError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
