"""Assets: what Strandline stores of a topic, as ``strandline://CLUSTER/TOPIC``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def create_asset(*, topic: str, cluster: str = "default", extra: Any = None) -> Asset:
    """The asset of a topic's snapshots."""
    return Asset(uri=f"strandline://{cluster}/{topic}", extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Airflow's check of such a URI.

    :raises ValueError: it is not ``strandline://CLUSTER/TOPIC``
    """
    topic = uri.path.removeprefix("/")
    if not uri.netloc or not topic or "/" in topic or uri.query or uri.fragment:
        raise ValueError("URI format strandline:// must be strandline://CLUSTER/TOPIC")
    return uri


def add_to_events(context: Context, outlets: list[Any], snapshot: Mapping[str, Any]) -> None:
    """Tell those whom the outlets start which snapshot it is and what it holds."""
    events = context["outlet_events"]
    result = snapshot.get("result") or {}
    for outlet in outlets:
        if isinstance(outlet, Asset):
            events[outlet].extra.update(
                {
                    "snapshot_id": snapshot["id"],
                    "topic": snapshot["topic"],
                    "window_start": snapshot["window_start"],
                    "window_end": snapshot["window_end"],
                    "completeness": snapshot["completeness"],
                    "records": result.get("records"),
                    "lost_offsets": result.get("lost_offsets"),
                }
            )
