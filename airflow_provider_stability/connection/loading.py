"""Loads settings from Airflow connections. The only module of ``connection`` that imports Airflow."""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, mask_secret
from asgiref.sync import sync_to_async

from airflow_provider_stability.connection.fields import CONNECTION_TYPE, EXTRA_FIELDS
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import StabilityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from airflow.providers.common.compat.sdk import Connection
    from tenacity import RetryCallState

__all__ = ["connection_disappeared", "load_settings", "load_settings_async"]

log = logging.getLogger(__name__)

_RETRY_DELAYS: Final = (1, 4)  # seconds
_CONNECTION_KEYS: Final = "conn_type, password, host and extra as strings, port as a number"


def load_settings(
    connection_id: str,
    get_connection: Callable[[str], Connection],
    *,
    sleep: Callable[[float], None] | None = None,
) -> Settings:
    """Load the settings of a connection.

    A connection that is not found is read again before it counts as missing: Airflow also says so when a
    secrets backend or its own API did not answer (2.11 ``Connection.get_connection_from_secrets``, 3.3
    ``sdk/execution_time/context._get_connection``).

    :param get_connection: the hook's.
    :param sleep: waits for some seconds between two tries; None: ``time.sleep``.
    :raises StabilityConfigurationError: if the connection is missing, unreadable or invalid.
    """
    from tenacity import Retrying
    from tenacity.nap import sleep as default_sleep

    retrying = Retrying(sleep=sleep or default_sleep, **_retry_policy(connection_id))
    with _errors_explained(connection_id):
        connection = retrying(get_connection, connection_id)
    _check_form(connection_id, connection)
    settings = _parse(connection_id, connection, connection.extra_dejson)
    # Airflow masks the password as it is stored. Without "Bearer" it is another string.
    mask_secret(settings.api_key)
    return settings


async def load_settings_async(
    connection_id: str, *, sleep: Callable[[float], Awaitable[None]] | None = None
) -> Settings:
    """Load the settings of a connection in an event loop, as ``load_settings`` does.

    Through common-compat, which reads and masks connections as each Airflow version wants it, without
    blocking the loop. Never in a thread: Airflow 3.0 and 3.1 break then.

    :param sleep: waits for some seconds between two tries; None: ``asyncio.sleep``.
    :raises StabilityConfigurationError: if the connection is missing, unreadable or invalid.
    """
    import asyncio

    from tenacity import AsyncRetrying

    retrying = AsyncRetrying(sleep=sleep or asyncio.sleep, **_retry_policy(connection_id))
    with _errors_explained(connection_id):
        connection: Connection = await retrying(get_async_connection, connection_id)
        _check_form(connection_id, connection)
        extra = await get_async_extra_dejson(connection)
    settings = _parse(connection_id, connection, extra)
    if settings.api_key != connection.password:
        with _errors_explained(connection_id):
            await sync_to_async(mask_secret)(settings.api_key)
    return settings


def connection_disappeared(connection_id: str) -> StabilityConfigurationError:
    """Return the error for a connection that is no longer found in the middle of a wait.

    Transient: Airflow cannot tell a deletion from an outage of a secrets backend, which must not end every
    gate.
    """
    return StabilityConfigurationError(
        f"connection {connection_id!r} was found before, but is not found now: it was deleted, "
        "or Airflow's secrets backend or API does not answer",
        transient=True,
    )


def _retry_policy(connection_id: str) -> dict[str, Any]:
    from tenacity import retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

    def log_retry(state: RetryCallState) -> None:
        assert state.next_action is not None
        log.warning(
            "Connection %r was not found; trying again in %g s", connection_id, state.next_action.sleep
        )

    return {
        "retry": retry_if_exception_type(AirflowNotFoundException),
        "wait": wait_chain(*map(wait_fixed, _RETRY_DELAYS)),
        "stop": stop_after_attempt(1 + len(_RETRY_DELAYS)),
        "before_sleep": log_retry,
        "reraise": True,
    }


@contextmanager
def _errors_explained(connection_id: str) -> Iterator[None]:
    """Turn whatever reading a connection raises into a StabilityConfigurationError."""
    try:
        yield
    except StabilityConfigurationError:
        raise
    except AirflowNotFoundException:
        raise _missing(connection_id) from None
    except Exception as error:  # noqa: BLE001  # secrets backends raise anything
        # Without the error's text: it is a secrets backend's, and Airflow has logged it.
        raise StabilityConfigurationError(
            f"connection {connection_id!r} could not be read: {type(error).__name__}; "
            "see Airflow's log lines before this one for the reason",
            transient=True,
        ) from None


def _check_form(connection_id: str, connection: Connection) -> None:
    """Refuse a connection whose password must not even be looked at, or whose extra would be lost."""
    if connection.conn_type and connection.conn_type != CONNECTION_TYPE:
        # Its password may be the key of another service, which Stability AI must not receive.
        raise StabilityConfigurationError(
            f"connection {connection_id!r}: type is {connection.conn_type!r}; it must be {CONNECTION_TYPE!r}"
        )
    if not _is_json_object(connection.extra):
        # Airflow reads an invalid extra as an empty one, which would silently drop the organization.
        raise StabilityConfigurationError(
            f"connection {connection_id!r}: extra is not a JSON object; it must be one with the fields "
            f"{', '.join(EXTRA_FIELDS)}, or empty"
        )


def _parse(connection_id: str, connection: Connection, extra: dict[str, Any]) -> Settings:
    return Settings.parse(
        connection_id,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        schema=connection.schema,
        extra=extra,
    )


def _is_json_object(text: str | None) -> bool:
    if not text or not text.strip():
        return True
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _missing(connection_id: str) -> StabilityConfigurationError:
    variable = f"AIRFLOW_CONN_{connection_id.upper()}"
    if variable in os.environ:
        problem = f"{variable} is set, but Airflow cannot read it; it must be JSON with {_CONNECTION_KEYS}"
    else:
        problem = (
            f"it is not defined; add one of type {CONNECTION_TYPE!r}, or set {variable} "
            "(if it exists, Airflow's secrets backend or API did not answer)"
        )
    error = StabilityConfigurationError(f"connection {connection_id!r}: {problem}")
    error.is_missing = True
    return error
