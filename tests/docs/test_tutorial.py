"""The tutorial works for somebody who types what it says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))


def test_the_commands_of_the_tutorial_are_shell() -> None:
    checked = subprocess.run(["bash", "-n"], input="\n".join(commands()), text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    assert len(commands()) > 10


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_tutorial_ends_with_a_champion_that_answers(tmp_path: Path) -> None:
    clone = tmp_path / "precis"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    # what is not committed yet is part of what is tested
    for name in changed_files():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((ROOT / name).read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = "set -euo pipefail\n" + "\n".join(commands()).replace("8000", str(port))
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=clone,
        env=newcomer(tmp_path),
        stdout=(tmp_path / "output").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        exit_code = shell.wait(2900)
    finally:
        # the service, should the script have ended early
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    output = (tmp_path / "output").read_text(encoding="utf-8", errors="replace")
    assert exit_code == 0, output[-5000:]
    answer = (clone / "answer.json").read_text(encoding="utf-8")
    assert '"model_version":"1"' in answer.replace(" ", "")
    # a name that no training row has: it can only have been copied
    assert "Zobrex 4711" in answer
    assert "the version gives the same summary again" in output
    assert "exit code 3: the champion stays" in output
    assert "version 1 of precis is champion again" in output
    # between the two, the service that was running all the time answered by the other version
    assert '"model_version":"2"' in output


def changed_files() -> list[str]:
    """Files of the working copy that git would add, and that exist."""
    listed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def newcomer(folder: Path) -> dict[str, str]:
    """The environment of somebody who has nothing set, but a name for git."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")
    package_index = ("PIP_", "UV_")
    environment = {
        name: value for name, value in os.environ.items() if name in kept or name.startswith(package_index)
    }
    environment["PATH"] = os.pathsep.join(
        entry for entry in environment["PATH"].split(os.pathsep) if ".venv" not in entry
    )
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "newcomer", f"GIT_{role}_EMAIL": "newcomer@localhost"}
    environment["PREFECT_HOME"] = str(folder / "prefect")
    return environment
