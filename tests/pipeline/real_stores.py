"""PostgreSQL and an S3 store for tests, as `make services` starts them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, Project


class RealStores:
    """The stores in a folder of their own, which the user that PostgreSQL runs as can enter."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="precis-stores-"))
        self.folder.chmod(0o755)

    def do(self, action: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "flows/stores.py", action, "--folder", str(self.folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
        )

    def start(self) -> None:
        done = self.do("start")
        if "is not installed" in done.stderr:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr

    @property
    def environment(self) -> dict[str, str]:
        """What the printed lines set."""
        words = [shlex.split(line) for line in self.do("env").stdout.splitlines()]
        return dict(line[1].split("=", 1) for line in words if line[0] == "export")

    def bucket(self) -> Any:
        """A client of the store and its bucket, to which `upload_file` and its like belong."""
        import boto3

        values, key = self.environment, {}
        for line in (self.folder / "aws-credentials").read_text().splitlines()[1:]:
            name, _, value = line.partition(" = ")
            key[name] = value
        resource = boto3.resource(
            "s3", endpoint_url=values["AWS_ENDPOINT_URL_S3"], region_name=values["AWS_DEFAULT_REGION"], **key
        )
        return resource.Bucket("precis")

    def close(self) -> None:
        self.do("stop")
        shutil.rmtree(self.folder)


@contextmanager
def real_stores() -> Iterator[RealStores]:
    stores = RealStores()
    try:
        stores.start()
        yield stores
    finally:
        stores.close()


def move_corpus(project: Project, stores: RealStores, folder: str) -> str:
    """Put a project's corpus into the store; gives its address, from which the project reads it then."""
    bucket = stores.bucket()
    source = project.folder / "data" / "source"
    for file in sorted(source.glob("*.jsonl")):
        bucket.upload_file(str(file), f"{folder}/{file.name}")
        file.unlink()
    address = f"s3://{bucket.name}/{folder}"
    project.set_params({"corpus": {"files": {"path": address}}})
    return address
