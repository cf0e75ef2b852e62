"""From an Airflow connection to settings: the only place that reads one, for the hook and the poller."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, mask_secret
from asgiref.sync import sync_to_async

from airflow_provider_stability.connection.fields import CONNECTION_TYPE, EXTRA_FIELDS
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import StabilityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import Connection

__all__ = ["connection_disappeared", "load_settings", "load_settings_async"]

log = logging.getLogger(__name__)

_READ_AGAIN_AFTER: Final = (1, 4)  # seconds
_LOOKING_AGAIN: Final = "Connection %r was not found; looking again in %g s"
_CONNECTION_KEYS: Final = "conn_type, password, host and extra as texts, port as a number"


async def load_settings_async(connection_id: str) -> Settings:
    """Read a connection in an event loop, and return what it means; the hook's way for the triggerer.

    Through common-compat, which knows how each Airflow version reads connections, and masks them in its logs,
    without blocking or wedging the loop. Never in a thread of our own: 3.0 and 3.1 break then.

    :raises StabilityConfigurationError: naming the connection, the field and what is allowed.
    """
    for pause in (*_READ_AGAIN_AFTER, None):
        try:
            connection = await get_async_connection(connection_id)
            _check_form(connection_id, connection)
            settings = _parse(connection_id, connection, await get_async_extra_dejson(connection))
            if settings.api_key != connection.password:
                await sync_to_async(mask_secret)(settings.api_key)
        except AirflowNotFoundException:
            if pause is not None:
                log.warning(_LOOKING_AGAIN, connection_id, pause)
                await asyncio.sleep(pause)
        except StabilityConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001  # secrets backends raise what they like
            raise _unreadable(connection_id, error) from None
        else:
            return settings
    raise _missing(connection_id)


def load_settings(connection_id: str, get_connection: Callable[[str], Connection]) -> Settings:
    """Read a connection, and return what it means.

    It is read again before it is believed to be missing: Airflow says so too where a secrets backend or its
    own API did not answer (2.11 ``Connection.get_connection_from_secrets``, 3.3
    ``sdk/execution_time/context._get_connection``).

    :param get_connection: the hook's.
    :raises StabilityConfigurationError: naming the connection, the field and what is allowed.
    """
    connection = _read(connection_id, get_connection)
    _check_form(connection_id, connection)
    settings = _parse(connection_id, connection, connection.extra_dejson)
    # Airflow masks the password as it is stored; without "Bearer" in front it is another text.
    mask_secret(settings.api_key)
    return settings


def _read(connection_id: str, get_connection: Callable[[str], Connection]) -> Connection:
    for pause in (*_READ_AGAIN_AFTER, None):
        try:
            return get_connection(connection_id)
        except AirflowNotFoundException:
            if pause is not None:
                log.warning(_LOOKING_AGAIN, connection_id, pause)
                time.sleep(pause)
        except Exception as error:  # noqa: BLE001  # secrets backends raise what they like
            raise _unreadable(connection_id, error) from None
    raise _missing(connection_id)


def _check_form(connection_id: str, connection: Connection) -> None:
    """Refuse what must not even be parsed."""
    if connection.conn_type and connection.conn_type != CONNECTION_TYPE:
        # Its password may be the key of another service, which Stability AI is not to get.
        raise StabilityConfigurationError(
            f"connection {connection_id!r}: its type is {connection.conn_type!r}; "
            f"allowed is {CONNECTION_TYPE!r}"
        )
    if not _is_json_object(connection.extra):
        # Airflow reads an extra that is no JSON as an empty one: the organization in it would be lost unseen.
        raise StabilityConfigurationError(
            f"connection {connection_id!r}: extra is no JSON object; allowed is one with the fields "
            f"{', '.join(EXTRA_FIELDS)}"
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
    """Return the error for a connection that Airflow does not find."""
    variable = f"AIRFLOW_CONN_{connection_id.upper()}"
    if variable in os.environ:
        problem = f"{variable} is set, but Airflow cannot read it; allowed is JSON with {_CONNECTION_KEYS}"
    else:
        problem = (
            f"it is not defined; add one of type {CONNECTION_TYPE!r}, or set {variable} "
            "(if it is there, Airflow's secrets backend or API has not answered)"
        )
    error = StabilityConfigurationError(f"connection {connection_id!r}: {problem}")
    error.is_missing = True
    return error


def connection_disappeared(connection_id: str) -> StabilityConfigurationError:
    """Return the error for a connection that is not found any more in the middle of a wait.

    To be waited out: Airflow does not tell one that was deleted from a secrets backend that is down, and an
    outage of a backend must not end every gate for good.
    """
    return StabilityConfigurationError(
        f"connection {connection_id!r} is not found now, and was before: it has been deleted, "
        "or Airflow's secrets backend or API does not answer",
        transient=True,
    )


def _unreadable(connection_id: str, error: Exception) -> StabilityConfigurationError:
    """Return the error for a connection that Airflow could not read just now."""
    # Without the error's text: it is a secrets backend's, and Airflow has logged it.
    return StabilityConfigurationError(
        f"connection {connection_id!r} could not be read: {type(error).__name__}; "
        "Airflow's log lines before this one say why",
        transient=True,
    )
