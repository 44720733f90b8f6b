"""Why a stage runs again: what differs between its record of an earlier run and what it is asked now."""

from __future__ import annotations

import json
from typing import Any


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return `key old -> new` for each leaf that differs, files as `key changed`."""
    left, right = _leaves(old["arguments"]), _leaves(new["arguments"])
    lines = []
    for key in sorted(left.keys() | right.keys()):
        before, after = left.get(key, "nothing"), right.get(key, "nothing")
        # As JSON, where 1, 1.0 and true differ as they do in the key.
        if json.dumps(before) == json.dumps(after):
            continue
        if {before, after} == {None, "nothing"}:
            continue  # a table on the other side, whose keys are named one by one
        name = key.removesuffix(".sha256").removeprefix("config.")
        is_content = key.endswith(".sha256") or ".sources." in key
        lines.append(f"{name} changed" if is_content else f"{name} {before} -> {after}")
    for tool in sorted(old["tools"].keys() | new["tools"].keys()):
        before, after = old["tools"].get(tool), new["tools"].get(tool)
        if before != after:
            lines.append(f"{tool} {before} -> {after}")
    if old["version"] != new["version"]:
        lines.append(f"edgekd's stage {new['stage']} changed")
    return lines


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, list):
        value = {str(index): item for index, item in enumerate(value)}
    if isinstance(value, dict):
        inner = [_leaves(item, f"{path}.{name}".strip(".")) for name, item in value.items()]
        return {key: leaf for leaves in inner for key, leaf in leaves.items()}
    return {path: value}
