"""Which nodes of the file as it came a node stands for: folding and fusing leave fewer nodes than the user can name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from onnx import ModelProto, NodeProto

from edgekd.errors import ModelError, did_you_mean

_KEY = "edgekd.names"


def mark(model: ModelProto) -> None:
    """Let each named node remember its own name, in place; one that remembers names already keeps them."""
    for node in model.graph.node:
        if node.name and not of(node):
            node.metadata_props.add(key=_KEY, value=node.name)


def of(node: NodeProto) -> tuple[str, ...]:
    """Return the names of the nodes that this one stands for; empty where none were marked."""
    for each in node.metadata_props:
        if each.key == _KEY:
            return tuple(each.value.split("\n"))
    return ()


def merge(into: NodeProto, *others: NodeProto) -> None:
    """Let a node stand for others too, in place."""
    names = list(dict.fromkeys((*of(into), *(name for other in others for name in of(other)))))
    if not names:
        return
    for each in into.metadata_props:
        if each.key == _KEY:
            each.value = "\n".join(names)
            return
    into.metadata_props.add(key=_KEY, value="\n".join(names))


def matching(model: ModelProto, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the names, sorted, of the nodes that stand for one that a pattern names: a name itself, or a glob.

    Raises ModelError for a pattern that matches nothing.
    """
    names = {node.name: of(node) or (node.name,) for node in model.graph.node}
    found: set[str] = set()
    for pattern in patterns:
        matched = {
            name
            for name, stands_for in names.items()
            if any(each == pattern or fnmatchcase(each, pattern) for each in stands_for)
        }
        if not matched:
            known = sorted({each for stands_for in names.values() for each in stands_for})
            raise ModelError(
                f'quantize.float: no node is named "{pattern}"',
                f"{did_you_mean(pattern, known)}the first nodes are {', '.join(known[:5])}; globs such as "
                f'"/model.22/*" match too',
            )
        found |= matched
    return tuple(sorted(found))
