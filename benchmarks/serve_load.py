"""The service under load: at 80 % of its capacity, at 300 %, and after.

    python benchmarks/serve_load.py --seconds 600

Starts `precis serve` with a model of random weights (or --model) and measures what 20 clients get when each asks again
as soon as it is answered: the capacity. Then 20 clients ask at 80 % of that rate, each at its own even pace, then
requests come at 300 %, whether or not earlier ones are answered, then one client asks on. Ends with 1 if a promise is
broken. At 80 %: no error, memory within 10 %, p99 < 3 x p50. At 300 %: answers, or 429 and 503. Recovery in 5 s.
With --untimed the times are printed and not judged, for machines that have other work to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from serve_model import Connection, Server, bodies_of, quantiles, texts_of, workload_of, write_model

CLIENTS = 20
OVERLOAD_SECONDS = 20
RECOVERY_SECONDS = 60  # is waited for at most
MOST_OPEN = 400  # requests at a time at 300 %; below the connections that the service takes


async def saturate(port: int, bodies: list[bytes], seconds: float) -> float:
    """Answered requests per second when every client asks again at once."""
    end = time.monotonic() + seconds
    done = 0

    async def client(number: int) -> None:
        nonlocal done
        connection = Connection(port)
        turn = number
        while time.monotonic() < end:
            status, _ = await connection.post(bodies[turn % len(bodies)])
            turn += CLIENTS
            done += status == 200
        connection.close()

    await asyncio.gather(*map(client, range(CLIENTS)))
    return done / seconds


async def steady(server: Server, bodies: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Clients that each ask at an even pace."""
    statuses: Counter[int] = Counter()
    took: list[float] = []
    late: list[float] = []
    memory: list[float] = []
    start = time.monotonic()

    async def client(number: int) -> None:
        connection = Connection(server.port)
        pace = CLIENTS / rate
        turn = 0
        while (due := start + (turn + number / CLIENTS) * pace) < start + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            asked = time.monotonic()
            status, _ = await connection.post(bodies[(turn * CLIENTS + number) % len(bodies)])
            statuses[status] += 1
            took.append(time.monotonic() - asked)
            late.append(time.monotonic() - due)
            turn += 1
        connection.close()

    async def watch() -> None:
        while time.monotonic() < start + seconds:
            memory.append(server.resident())
            await asyncio.sleep(min(5, seconds / 20))

    await asyncio.gather(watch(), *map(client, range(CLIENTS)))
    settled = memory[len(memory) // 5 :]
    return {
        "statuses": dict(statuses),
        "milliseconds": quantiles(took),
        "milliseconds_since_due": quantiles(late),
        "memory_mb": [round(settled[0]), round(settled[-1]), round(max(memory))],
    }


async def overload(port: int, bodies: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Requests at a rate that does not wait for answers."""
    statuses: Counter[int] = Counter()
    refused: list[float] = []
    free = [Connection(port) for _ in range(MOST_OPEN)]
    tasks: set[asyncio.Task[None]] = set()
    start = time.monotonic()
    sent = skipped = 0

    async def ask(connection: Connection, body: bytes) -> None:
        asked = time.monotonic()
        status, _ = await connection.post(body)
        statuses[status] += 1
        if status in (429, 503):
            refused.append(time.monotonic() - asked)
        free.append(connection)

    while (now := time.monotonic()) < start + seconds:
        while sent + skipped < (now - start) * rate:
            if free:
                task = asyncio.create_task(ask(free.pop(), bodies[sent % len(bodies)]))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
            else:
                skipped += 1
        await asyncio.sleep(0.002)
    if tasks:
        await asyncio.wait(tasks)
    for connection in free:
        connection.close()
    return {"sent": sent, "skipped": skipped, "statuses": dict(statuses), "refusal_ms": quantiles(refused)}


async def recover(port: int, bodies: list[bytes], usual: float) -> float:
    """Seconds until five answers in a row take at most `usual` seconds each."""
    start = time.monotonic()
    connection = Connection(port)
    in_a_row = 0
    while in_a_row < 5 and time.monotonic() < start + RECOVERY_SECONDS:
        asked = time.monotonic()
        status, _ = await connection.post(bodies[0])
        in_a_row = in_a_row + 1 if status == 200 and time.monotonic() - asked <= usual else 0
    connection.close()
    return time.monotonic() - start


async def measure(server: Server, bodies: list[bytes], seconds: float) -> dict[str, Any]:
    """All of it."""
    await saturate(server.port, bodies, min(10, seconds / 4))  # what is made at first use is made
    capacity = await saturate(server.port, bodies, min(30, max(5, seconds / 4)))
    calm = await steady(server, bodies, 0.8 * capacity, seconds)
    storm = await overload(server.port, bodies, 3 * capacity, min(OVERLOAD_SECONDS, max(5, seconds / 3)))
    seconds_after = await recover(server.port, bodies, calm["milliseconds"]["p99"] / 1000)
    return {
        "capacity": round(capacity, 1), "at_80": calm, "at_300": storm, "recovery_s": round(seconds_after, 2),
    }  # fmt: skip


def broken_promises(found: dict[str, Any], *, untimed: bool) -> list[str]:
    """What is not as it should be."""
    calm, storm = found["at_80"], found["at_300"]
    before, after, _ = calm["memory_mb"]
    checks = {
        "errors at 80 %": set(calm["statuses"]) == {200},
        "memory grew by more than 10 %": after <= 1.1 * before,
        "p99 is three times p50 or more": untimed
        or calm["milliseconds"]["p99"] < 3 * calm["milliseconds"]["p50"],
        "other errors than overload at 300 %": set(storm["statuses"]) <= {200, 429, 503},
        "no overload at 300 %": set(storm["statuses"]) > {200},
        "recovery took more than 5 s": untimed or found["recovery_s"] <= 5,
        "no recovery in a minute": found["recovery_s"] < RECOVERY_SECONDS,
        "it did not end as it should": found["exit_code"] == 143,
        "a traceback in the log": not found["traceback"],
    }
    return [name for name, is_kept in checks.items() if not is_kept]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="at 80 %%")
    parser.add_argument("--model", type=Path, help="a folder; without: random weights")
    parser.add_argument("--corpus", type=Path, help="JSON Lines; without: drawn by chance")
    parser.add_argument("--options", default="", help="more options of precis serve")
    parser.add_argument("--untimed", action="store_true", help="times break no promise")
    arguments = parser.parse_args()
    workload = workload_of(arguments.corpus, 512)
    with tempfile.TemporaryDirectory(prefix="precis-load-") as folder:
        model = arguments.model or write_model(workload, Path(folder) / "model")
        log = Path(folder) / "log"
        server = Server(model, log, *arguments.options.split())
        try:
            found = asyncio.run(measure(server, bodies_of(texts_of(workload)), arguments.seconds))
        finally:
            code = server.stop()
        found |= {"exit_code": code, "traceback": "Traceback" in log.read_text()}
    broken = broken_promises(found, untimed=arguments.untimed)
    print(json.dumps({**found, "broken": broken}, indent=2))
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
