"""YAML that v2w reads: small, plain data only, and nothing that a few bytes can blow up.

Checkpoints and parameter files come from others. A file of a kilobyte with anchors can stand for
gigabytes, and one of megabytes takes minutes to read: both are refused before anything is built.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

#: Largest YAML file [bytes]; the largest configuration of a checkpoint has 4 KiB.
MAX_BYTES = 1 << 20
#: Largest number of mappings, lists, keys and values of a file.
MAX_ITEMS = 20_000
#: Largest number of mappings and lists inside each other.
MAX_DEPTH = 32
#: Largest number of characters of one key or value (YAML's base 60 takes quadratic time).
MAX_SCALAR = 4096

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class YAMLError(ValueError):
    """YAML that is damaged, too large, or not plain data; the text says which and where."""


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The plain data in a YAML file.

    Raises:
        YAMLError: as :func:`parse_yaml`; also a file of more than :data:`MAX_BYTES`.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise YAMLError(f"at most {MAX_BYTES} bytes of YAML")
    try:
        return parse_yaml(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise YAMLError(f"text in UTF-8, but {error}") from error


def parse_yaml(text: str) -> Any:
    """The plain data in one document of YAML: mappings, lists, texts, numbers, dates and None.

    Raises:
        YAMLError: no valid YAML; Python objects; anchors or aliases; a key twice in one mapping;
            more than :data:`MAX_ITEMS`, :data:`MAX_DEPTH` or :data:`MAX_SCALAR`.
    """
    try:
        _check_events(text)
        return yaml.load(text, Loader=_PlainLoader)
    except YAMLError:
        raise
    except Exception as error:  # PyYAML's constructors fail in any way they like
        shown = " ".join(str(error).split())
        raise YAMLError(f"valid YAML without Python objects, but {shown}") from error


def _check_events(text: str) -> None:
    """Refuses what is too much while it is read, before anything is built of it."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise YAMLError(f"no anchors (&) and aliases (*){_line(event)}: write them out")
        depth += isinstance(event, _OPENS) - isinstance(event, _CLOSES)
        if depth > MAX_DEPTH:
            raise YAMLError(f"at most {MAX_DEPTH} mappings and lists inside each other")
        if number > MAX_ITEMS:
            raise YAMLError(f"at most {MAX_ITEMS} keys, values, mappings and lists")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_SCALAR:
            raise YAMLError(f"at most {MAX_SCALAR} characters in a key or value{_line(event)}")


def _line(where: Any) -> str:
    """Where an event or a node begins, for an error."""
    return f", line {where.start_mark.line + 1}" if where.start_mark else ""


class _PlainLoader(_Loader):
    """Loads plain data; a key that stands twice in a mapping is an error, not the last one's."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            names = Counter(str(key.value) for key, _ in node.value)
            twice = names.most_common(1)[0][0]
            raise YAMLError(f"each key once in a mapping{_line(node)}: {twice} stands there twice")
        return mapping
