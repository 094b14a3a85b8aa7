"""What all commands have in common: help, completion, exit codes, and that each has a test."""

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precis import cli, commands
from precis.cli import app

TESTS = Path(__file__).parents[1]
COMMANDS = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))


def test_help_lists_every_command_at_80_columns_and_the_exit_codes(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    listed = re.findall(r"^│ (\w+) ", out, re.MULTILINE)
    assert sorted(listed) == COMMANDS
    assert max(map(len, out.splitlines())) <= 80
    flat = " ".join(out.split())
    for meaning in ("0 done", "1 an error", "3 promote: the champion stays", "130 Ctrl-C", "143 SIGTERM"):
        assert meaning in flat


def test_help_imports_no_command_and_none_of_the_large_packages():
    code = """
import sys
from precis.cli import app
app(["--help"], standalone_mode=False)
heavy = {"torch", "mlflow", "numpy", "pydantic", "pyarrow", "dvc", "prefect", "pandas", "datasets", "onnxruntime"}
print(sorted(heavy & set(sys.modules)), [name for name in sys.modules if name.startswith("precis.commands.")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[] []", done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_80_columns_and_explains_every_option(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    # a default that is a long path is cut off, and nothing else
    assert not [line for line in lines if re.search(r"[^/]…", line) and "/" not in line], (
        "something is cut off"
    )
    rows = [line for line in lines if re.search(r" <[a-z].*>", line)]
    unexplained = [row for row in rows if not re.search(r"> +[^ │]", row)]
    assert rows and unexplained == []


def test_the_version_is_told(run):
    code, out, _ = run("--version")
    assert code == 0 and re.fullmatch(r"precis \d+\.\d+\.\d+\n", out)


@pytest.mark.parametrize(
    "arguments", [["sumarize"], ["summarize", "--bream", "3"], ["summarize", "--beam", "x"]]
)
def test_what_cannot_be_understood_is_exit_code_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage: precis" in err


def test_the_shell_completes_commands_and_options(run, environment):
    def complete(words: str) -> list[str]:
        asked = {
            "_PRECIS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        _, out, _ = run(env=environment | asked)
        return out.split()

    assert complete("precis su") == ["summarize"]
    assert sorted(complete("precis ")) == COMMANDS
    assert complete("precis summarize --prov") == ["--provenance"]


def test_completion_can_be_installed(tmp_path, environment):
    command = [str(Path(sys.executable).with_name("precis")), "--install-completion", "bash"]
    asked = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(command, env=environment | asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bash completion installed" in done.stdout
    (script,) = (file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".bashrc")
    assert "_PRECIS_COMPLETE=complete_bash" in script.read_text()


def test_every_command_is_run_as_a_process_by_some_test():
    tested = set()
    for file in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            tested |= _commands_of(node)
    assert sorted(set(COMMANDS) - tested) == []


def _commands_of(node: ast.AST) -> set[str]:
    """The commands that a list of words or the arguments of a call start."""
    if isinstance(node, ast.Call):
        words: list[ast.expr] = node.args
        starts = {"run", "start"} & {getattr(node.func, "id", None)}
    elif isinstance(node, ast.List | ast.Tuple):
        words, starts = node.elts, set()
    else:
        return set()
    says = [getattr(word, "value", getattr(word, "id", None)) for word in words]
    says = [word if isinstance(word, str) else None for word in says]
    if not starts and not {"precis", "PRECIS", "precis.cli"} & set(says):
        return set()
    return {word for word in says if word in COMMANDS}


def test_the_page_about_the_command_line_names_every_command_and_exit_code():
    page = (TESTS.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"| `precis {name}` |" not in page] == []
    in_help = re.findall(r"(?<!\d)(\d+) [a-z`A-Z]", cli._EXIT_CODES)
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == in_help
