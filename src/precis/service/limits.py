"""What one request, and all of them together, may ask of the service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Each is an option of `precis serve`.

    Attributes:
        body_bytes: of a request, counted as they arrive.
        documents: of a request.
        characters: of a document.
        depth: of nesting in the JSON of a request.
        beam_size: the most hypotheses that a request may have kept open.
        summary_words: the most that a request may ask for as `max_length`.
        deadline_seconds: from the headers of a request to its answer.
        body_seconds: within which headers must be complete, and then the body.
        waiting: documents in the queue; what comes then is refused. 0: two full searches for each worker.
        connections: open at a time.
    """

    body_bytes: int = 256 * 1024
    documents: int = 16
    characters: int = 20_000
    depth: int = 16
    beam_size: int = 16
    summary_words: int = 200
    deadline_seconds: float = 30.0
    body_seconds: float = 10.0
    waiting: int = 0
    connections: int = 512
