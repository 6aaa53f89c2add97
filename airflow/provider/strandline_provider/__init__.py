"""Airflow provider for Strandline: exactly the events of a Kafka topic and a window of time."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow reads to find this provider's parts."""
    integration = "Strandline"
    return {
        "package-name": "airflow-provider-strandline",
        "name": integration,
        "description": "Snapshots of Kafka topics by window of time, with Strandline.",
        "integrations": [{"integration-name": integration, "tags": ["service"]}],
        "hooks": [_modules(integration, "hooks.strandline")],
        "operators": [_modules(integration, "operators.strandline")],
        "sensors": [_modules(integration, "sensors.strandline")],
        "triggers": [_modules(integration, "triggers.strandline")],
        "extra-links": ["strandline_provider.links.strandline.StrandlineSnapshotLink"],
        "asset-uris": [
            {
                "schemes": ["strandline"],
                "handler": "strandline_provider.assets.strandline.sanitize_uri",
                "factory": "strandline_provider.assets.strandline.create_asset",
            }
        ],
        "connection-types": [_connection_type()],
    }


def _modules(integration: str, module: str) -> dict[str, Any]:
    return {"integration-name": integration, "python-modules": [f"strandline_provider.{module}"]}


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "strandline",
        "hook-class-name": "strandline_provider.hooks.strandline.StrandlineHook",
        "hook-name": "Strandline",
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {
                "schema": "Scheme",
                "login": "Token name (optional)",
                "password": "Token",
            },
            "placeholders": {
                "host": "strandline.example.com, or https://strandline.example.com",
                "schema": "http or https",
                "port": "8080",
                "login": "given: Basic; empty: Bearer",
            },
        },
        "conn-fields": {
            "verify": {
                "label": "Verify TLS",
                "description": "true, false, or the path of a file with the CA's certificate",
                "schema": {"type": ["string", "boolean", "null"]},
            },
            "link_url": {
                "label": "Address for links",
                "description": "Where a browser finds Strandline, if not where the workers do",
                "schema": {"type": ["string", "null"]},
            },
            "timeout": {
                "label": "Timeout of a request",
                "description": "Seconds, besides the time that a request asks to wait; 30 if empty",
                "schema": {"type": ["number", "null"]},
            },
            "retry_seconds": {
                "label": "Patience",
                "description": "Seconds for which an absent or busy Strandline is asked again; "
                "300 if empty",
                "schema": {"type": ["number", "null"]},
            },
        },
    }
