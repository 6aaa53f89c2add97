"""From a task to its snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

#: The XCom under which the operator leaves the link.
LINK_KEY = "strandline_snapshot_link"


class StrandlineSnapshotLink(BaseOperatorLink):
    """The button "Strandline snapshot" of a task."""

    name = "Strandline snapshot"

    @property
    def xcom_key(self) -> str:
        """Where Airflow 3 finds the link without loading this class."""
        return LINK_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address of the snapshot; nothing if the task has not asked for it yet."""
        link: Any = XCom.get_value(key=LINK_KEY, ti_key=ti_key)
        return link or ""
