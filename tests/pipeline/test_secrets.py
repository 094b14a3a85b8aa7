"""Secrets in the environment and in git's remote stay out of everything that a whole pipeline writes."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from project import CANARIES, REMOTE

pytestmark = pytest.mark.timeout(600)
MARK = b"CANARY"


def holders(folder: Path) -> list[str]:
    """The files below a folder with a canary in them, but for git's own configuration."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / ".git" / "config" and MARK in path.read_bytes():
            found.append(path.relative_to(folder).as_posix())
    return found


def test_no_file_of_the_project_has_a_secret(finished_project):
    assert MARK.decode() in REMOTE and all(MARK.decode() in secret for secret in CANARIES.values())
    assert MARK in (finished_project.folder / ".git" / "config").read_bytes()  # it was there to be found
    assert holders(finished_project.folder) == []


def test_no_table_of_mlflow_has_a_secret(finished_project):
    with sqlite3.connect(finished_project.folder / "mlflow.db") as database:
        dump = "\n".join(database.iterdump())
    assert "pointer" in dump and MARK.decode() not in dump


def test_pages_and_messages_have_none(finished_project):
    told = [
        finished_project.run("precis", *command, check=False)
        for command in (
            ["doctor"],
            ["trace", "models:/precis@challenger"],
            ["verify", "models:/precis@nobody"],
        )
    ]
    assert all(MARK.decode() not in done.stdout + done.stderr for done in told)


def test_the_password_of_a_store_is_in_no_message_and_no_log(finished_project, tmp_path):
    # a copy: what `report` could not deliver waits there, and the others' project has nothing that waits
    folder = shutil.copytree(finished_project.folder, tmp_path / "project", symlinks=True)
    environment = {
        **finished_project.environment,
        "MLFLOW_TRACKING_URI": "http://user:CANARYofmlflow@127.0.0.1:9",  # pragma: allowlist secret
    }
    for command in (
        ["precis", "verify", "models:/precis@champion"],
        [sys.executable, "-m", "precis.stages.report"],
    ):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert "127.0.0.1:9" in done.stdout + done.stderr or done.returncode == 0
        assert MARK.decode() not in done.stdout + done.stderr
    assert holders(folder) == []


def test_a_corpus_address_with_a_password_is_refused(finished_project):
    from precis.errors import PrecisError
    from precis.params import load_params

    text = (finished_project.folder / "params.yaml").read_text()
    for address in (
        "https://user:CANARY@example.invalid/corpus",  # pragma: allowlist secret
        "https://example.invalid/corpus?X-Amz-Signature=CANARY",
    ):
        path = finished_project.folder / ".work" / "params-with-a-secret.yaml"
        path.write_text(text.replace("data/source", address))
        with pytest.raises(PrecisError, match="a password or a key") as error:
            load_params(path)
        path.unlink()
        assert MARK.decode() not in str(error.value)
