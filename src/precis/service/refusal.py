"""A request that is not answered with summaries, and why."""

from __future__ import annotations


class RefusedError(Exception):
    """What the client is told instead.

    Args:
        status: of HTTP.
        message: what was found, what was expected, what to do.
        retry_after: seconds after which the same request may succeed; None where it will not.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers
