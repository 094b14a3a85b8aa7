"""What a database server shared by several machines needs and a file does not: locks between them.

Of the servers that MLflow can keep its record in, PostgreSQL has such locks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from precis.errors import PrecisError, UnreachableError

if TYPE_CHECKING:
    from sqlalchemy import Engine

DATABASES = ("postgresql", "mysql", "mssql")  # that MLflow takes by URL, beside SQLite
# a machine that vanishes holds its locks no longer than this
_KEEPALIVE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"


def is_database(uri: str) -> bool:
    """Whether the URI is of a database server that processes ask without MLflow's server in between."""
    return uri.partition("://")[0].partition("+")[0] in DATABASES


def has_locks(uri: str) -> bool:
    """Whether `database_lock` works with it."""
    return uri.partition("://")[0].partition("+")[0] == "postgresql"


@contextmanager
def database_lock(uri: str, purpose: str) -> Iterator[None]:
    """Hold off all others, on whatever machine, that ask for the same; waits.

    The server frees it when the connection of its holder ends, however that ends.

    Args:
        uri: of a PostgreSQL database.
        purpose: what is held; other purposes have other locks.

    Raises:
        PrecisError: the database cannot be reached.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    engine = _engine(uri)
    try:
        connection = engine.connect()
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _key(purpose)})
    except SQLAlchemyError as error:
        raise unusable(uri, error) from error
    with connection:
        yield  # the end of the connection is the end of the lock


def create_tables(uri: str) -> None:
    """Have MLflow make its tables if there are none, one process after the other.

    MLflow makes them by a hundred migrations: several processes that are first at once get in each other's way.

    Raises:
        PrecisError: the database cannot be reached, or is another version's.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _engine(uri).connect() as connection:
            is_there = inspect(connection).has_table("alembic_version")
        if is_there:
            return
        if not has_locks(uri):
            MlflowClient(uri).search_experiments(max_results=1)
            return
        with database_lock(uri, "tables of MLflow"):
            MlflowClient(uri).search_experiments(max_results=1)  # the first question makes them
    except (MlflowException, SQLAlchemyError) as error:
        raise unusable(uri, error) from error


def without_password(uri: str) -> str:
    """The URI as it may be shown."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}"


def unusable(uri: str, error: Exception) -> PrecisError:
    """What to say when the database does not answer."""
    reason = next(iter(str(getattr(error, "orig", None) or error).strip().splitlines()), type(error).__name__)
    return UnreachableError(
        f"MLflow's database {without_password(uri)} cannot be used: {reason}. Is the server there, does "
        "MLFLOW_TRACKING_URI name it, and is the password in the file of PGPASSFILE?"
    )


def _engine(uri: str) -> Engine:
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    options = {"connect_args": {"options": _KEEPALIVE}} if has_locks(uri) else {}
    try:
        return create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT", **options)
    except ModuleNotFoundError as error:
        raise PrecisError(
            f"{without_password(uri)} needs the package {error.name} (PostgreSQL: pip install -e '.[stores]')"
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise PrecisError(f"{without_password(uri)} is no database's URI: {error}") from error


def _key(purpose: str) -> int:
    digest = hashlib.blake2b(f"precis: {purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
