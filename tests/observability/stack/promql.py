"""What is in a query: selectors of series, and labels that it names outside of them."""

from __future__ import annotations

import re
from typing import Any

import promql_parser


def selectors(node: Any, *, ranged: bool = False) -> list[tuple[Any, bool]]:
    """All selectors of series in a query, and whether each is of a range."""
    if isinstance(node, promql_parser.VectorSelector):
        return [(node, ranged)]
    ranged = isinstance(node, promql_parser.MatrixSelector)
    found: list[tuple[Any, bool]] = []
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if (child := getattr(node, part, None)) is not None:
            found += selectors(child, ranged=ranged)
    for child in getattr(node, "args", None) or []:
        found += selectors(child)
    return found


def grouped(expr: str) -> set[str]:
    """The labels that a query keeps or compares by."""
    lists = re.findall(r"\b(?:by|on|group_left|group_right)\s*\(([^)]*)\)", expr)
    return {label.strip() for found in lists for label in found.split(",")}


def made(expr: str) -> set[str]:
    """The labels that `label_replace` makes in it."""
    return set(re.findall(r'"(\w+)",\s*"\$\d+",', expr))
