"""The command line: every command is a function of `precis.commands`, under its own name."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import sys

import typer

from precis import commands
from precis.errors import PrecisError

app = typer.Typer(
    name="precis",
    help="Train small, fast, private summarizers on your own documents.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run a command; what a user can put right is one message and exit code 1."""
    for module in pkgutil.iter_modules(commands.__path__):
        loaded = importlib.import_module(f"precis.commands.{module.name}")
        command = getattr(loaded, module.name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=module.name)
        else:
            app.command(module.name)(command)
    try:
        app()
    except PrecisError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # the reader, such as `head`, has seen enough; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


if __name__ == "__main__":
    main()
