"""The command line: every command is a function of `precis.commands`, under its own name.

A command's module is imported when the command is used, not before: its line in `precis --help` is read from its
source. Errors are told here and nowhere else; so the exit codes mean the same everywhere.
"""

from __future__ import annotations

import ast
import logging
import os
import pkgutil
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typing_extensions import override

from precis import commands
from precis.environment import close_environment
from precis.errors import PrecisError, UnreachableError, shown

ERROR_EXIT = 1
TRY_LATER_EXIT = 75  # EX_TEMPFAIL of sysexits.h

_EXIT_CODES = (
    "Exit codes: 0 done; 1 an error, told in one message, or a check that failed; 2 the command line cannot be "
    "understood, or `drift --fail` found something; 3 `promote`: the champion stays; 75 another machine did not "
    "answer, or the pipeline is busy: try again; 130 Ctrl-C; 141 the reader of a pipe left; 143 SIGTERM."
)
_PANELS = {
    "Use a model": ("summarize", "serve", "demo", "export"),
    "Make a model": ("init", "recipe", "train", "evaluate", "compare", "sweep", "search"),
    "Know and change what is served": (
        "history", "promote", "rollback", "trace", "verify", "reproduce", "drift",
    ),
    "Keep it healthy": ("doctor", "cluster"),
}  # fmt: skip
_OPTIONS: dict[str, Any] = {"rich_markup_mode": "markdown", "pretty_exceptions_enable": False}


class _Commands(TyperGroup):
    """The commands by name: what help and completion show of them is not imported."""

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        places = {name: place for place, name in enumerate(sum(_PANELS.values(), ()))}
        names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
        return sorted(names, key=lambda name: (places.get(name, len(places)), name))

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        panel = next((panel for panel, names in _PANELS.items() if cmd_name in names), "More")
        return TyperCommand(
            cmd_name, help=_first_line(cmd_name), rich_markup_mode="markdown", rich_help_panel=panel
        )

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, None if found is None or name is None else _load(name), rest

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            code = _tell(error)
            if code is None:
                raise
            raise typer.Exit(code) from error
        except KeyboardInterrupt as error:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(128 + signal.SIGINT) from error


def _load(name: str) -> Any:
    """The command of that name, or the group of commands."""
    found = getattr(import_module(f"precis.commands.{name}"), name)
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, **_OPTIONS)
        app.command(name)(found)
        found = app
    return typer.main.get_command(found)


def _first_line(name: str) -> str:
    """What a command says it does, without importing it."""
    tree = ast.parse(Path(commands.__path__[0], f"{name}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    says = (ast.get_docstring(functions[0] if functions else tree) or "").split("\n\n")[0]
    # a module begins with the command's name
    says = says.removeprefix(f"`precis {name}`: ")
    return says[:1].upper() + says[1:]


def _tell(error: Exception) -> int | None:
    """Print what went wrong and give the exit code; None for what is no user's business: a defect, or click's own."""
    if isinstance(error, BrokenPipeError):
        # the reader, such as `head`, has seen enough; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    if isinstance(error, PrecisError):
        message = str(error)
    elif isinstance(error, OSError):
        # a full disk or a folder without write permission is nothing to show a traceback for
        message = f"{error.strerror or error}: {error.filename or 'while reading or writing'}"
    elif type(error).__module__.startswith("mlflow."):
        message = f"MLflow: {error}; `precis doctor` checks its store"
    else:
        return None
    print(f"error: {shown(message)}", file=sys.stderr)
    logging.getLogger(__name__).debug("where it happened", exc_info=error)
    return TRY_LATER_EXIT if isinstance(error, UnreachableError) else ERROR_EXIT


def _terminate(number: int, frame: FrameType | None) -> None:
    # as after an exception: nothing half-written stays; a second signal must not cut that short
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"precis {version('precis')}")
        raise typer.Exit


app = typer.Typer(
    name="precis", cls=_Commands, no_args_is_help=True, epilog=_EXIT_CODES, add_completion=True, **_OPTIONS
)


@app.callback()
def _precis(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train small, fast, private summarizers on your own documents."""


def main() -> None:
    """Run a command."""
    close_environment()
    signal.signal(signal.SIGTERM, _terminate)
    app()


if __name__ == "__main__":
    main()
