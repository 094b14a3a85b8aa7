"""`precis cluster`: a small Ray cluster on this machine, for trying out what runs on a large one."""

from __future__ import annotations

import sys
import threading
from typing import Annotated

import typer

cluster = typer.Typer(add_completion=False, help=__doc__)


@cluster.callback()
def _group() -> None:
    """A small Ray cluster on this machine, for trying out what runs on a large one."""


@cluster.command()
def up(
    nodes: Annotated[int, typer.Option(min=1, help="Nodes, each a set of processes of its own.")] = 2,
    cpus: Annotated[int, typer.Option(min=1, help="Cores that each node says it has.")] = 1,
    memory: Annotated[int, typer.Option(min=80, help="MB of each node's object store.")] = 300,
) -> None:
    """Start a cluster on this machine and keep it until Ctrl-C.

    It prints the address for params.yaml: execution.address. On real machines, `ray start --head` and
    `ray start --address=HEAD:6379` do the same.
    """
    from precis.execution.local_cluster import local_cluster

    with local_cluster(nodes, cpus=cpus, object_store_bytes=memory * 1_000_000) as address:
        print(f"{nodes} nodes with {cpus} cores each at {address}; in params.yaml:", file=sys.stderr)
        print(f"execution: {{engine: ray, address: '{address}'}}", flush=True)
        print("Ctrl-C ends it", file=sys.stderr)
        threading.Event().wait()
