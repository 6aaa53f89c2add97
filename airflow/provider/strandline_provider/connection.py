"""A connection of Airflow, as what a request needs."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from strandline_provider import __version__

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

DEFAULT_TIMEOUT_SECONDS = 30.0
DEFAULT_RETRY_SECONDS = 300.0


@dataclass(frozen=True)
class Settings:
    """Where Strandline is, who asks, and how patiently."""

    base_url: str
    #: Where a browser finds it.
    link_url: str
    #: Never shown: a connection's secret must not get into a log.
    auth: httpx.Auth | None = field(repr=False)
    verify: bool | ssl.SSLContext
    timeout_seconds: float
    retry_seconds: float

    def client_arguments(self) -> dict[str, Any]:
        """For `httpx.Client` and `httpx.AsyncClient` alike."""
        return {
            "base_url": self.base_url,
            "auth": self.auth,
            "verify": self.verify,
            "timeout": self.timeout_seconds,
            # Strandline never redirects; what does is a login page or a proxy.
            "follow_redirects": False,
            "headers": {"user-agent": f"airflow-provider-strandline/{__version__}"},
        }


def settings_of(connection: Connection, extra: Mapping[str, Any]) -> Settings:
    """The settings of a connection of type `strandline`, or `http` without headers."""
    base_url = _base_url(connection)
    link_url = str(extra.get("link_url") or base_url).rstrip("/")
    return Settings(
        base_url=base_url,
        link_url=link_url,
        auth=_auth(connection),
        verify=_verify(extra.get("verify")),
        timeout_seconds=_seconds(extra, "timeout", DEFAULT_TIMEOUT_SECONDS),
        retry_seconds=_seconds(extra, "retry_seconds", DEFAULT_RETRY_SECONDS),
    )


def _base_url(connection: Connection) -> str:
    host = (connection.host or "").strip().rstrip("/")
    if not host:
        raise ValueError(f"connection {connection.conn_id} has no host: where is Strandline?")
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    url = urlsplit(host)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"connection {connection.conn_id}: the address is no http or https URL")
    if url.username or url.password:
        # It would be shown wherever the address is.
        raise ValueError(
            f"connection {connection.conn_id}: the token belongs in the password, not the host"
        )
    if connection.port and url.port is None:
        host = url._replace(netloc=f"{url.netloc}:{connection.port}").geturl()
    return host


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["authorization"] = self._header
        yield request


def _auth(connection: Connection) -> httpx.Auth | None:
    if not connection.password:
        return None
    if connection.login:
        return httpx.BasicAuth(connection.login, connection.password)
    return _Bearer(connection.password)


def _verify(value: Any) -> bool | ssl.SSLContext:
    if value in (None, "", True):
        return True
    if value is False or str(value).lower() in ("false", "0", "no"):
        return False
    if str(value).lower() in ("true", "1", "yes"):
        return True
    path = os.fspath(value)
    return ssl.create_default_context(cafile=path) if os.path.isfile(path) else _missing(path)


def _missing(path: str) -> ssl.SSLContext:
    raise ValueError(f"verify is {path!r}, which is neither true, false nor a file")


def _seconds(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    if value in (None, ""):
        return default
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, which is no number of seconds") from None
    if seconds < 0:
        raise ValueError(f"{name} is {value!r}, less than 0 seconds")
    return seconds
