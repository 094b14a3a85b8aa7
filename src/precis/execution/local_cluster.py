"""Several Ray nodes on this machine."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from precis.execution.ray_engine import import_ray


@contextmanager
def local_cluster(nodes: int, *, cpus: int, object_store_bytes: int) -> Iterator[str]:
    """Give the address of a cluster whose nodes are processes here; they end with the block.

    Args:
        nodes: how many, the head included.
        cpus: cores that each says it has.
        object_store_bytes: of the memory in which each keeps results.

    Raises:
        PrecisError: Ray is not installed.
    """
    os.environ["RAY_AUTH_MODE"] = (
        "token"  # Ray listens on the machine's address: whoever has no token is refused
    )
    import_ray()
    ray_command = str(Path(sys.executable).with_name("ray"))
    # kept in the user's home, where `ray.init` looks for it
    subprocess.run([ray_command, "get-auth-token", "--generate"], check=True, capture_output=True)
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster: Any = Cluster()  # untyped in part
    try:
        for number in range(nodes):
            cluster.add_node(
                num_cpus=cpus,
                object_store_memory=object_store_bytes,
                include_dashboard=False,
                wait=number > 0,
            )
        yield str(cluster.address)
    finally:
        cluster.shutdown()
