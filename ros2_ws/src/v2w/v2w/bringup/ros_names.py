"""ROS's rules for names, those of rcl and rmw, without rclpy: checked before anything starts."""

from __future__ import annotations

import re

from v2w_core.errors import V2WError

#: A full name: parts of letters, digits and underscores, none of which begins with a digit.
_FULL = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
_SUBSTITUTION = re.compile(r"\{([A-Za-z0-9_]*)\}")
#: rmw's limits; a camera's compressed images are on the topic's name + "/compressed".
MAX_TOPIC, MAX_NAMESPACE = 247 - len("/compressed"), 200
TOPIC_RULE = (
    "a topic name: letters, digits, _ and /, no part that is empty or begins with a digit, ~ at "
    "the start only and before a /, "
    f"{{node}}, {{ns}}, {{namespace}}, at most {MAX_TOPIC} characters"
)


def check_topic_name(
    name: str, field: str, *, node: str = "node", namespace: str = "/namespace"
) -> str:
    """The full name of a topic.

    Args:
        name: absolute, relative to the namespace, or to the node with ~; may have {node}, {ns} and
            {namespace}, which are the node's.
        field: what errors call it.
        node: name of the node.
        namespace: its namespace, which begins with /.

    Raises:
        V2WError: no name that ROS accepts.
    """
    known = {"node": node, "ns": namespace, "namespace": namespace}
    here = "" if namespace == "/" else namespace
    full = _SUBSTITUTION.sub(lambda found: known.get(found[1], found[0]), name)
    if name.startswith("~"):
        full = f"{here}/{node}{full[1:]}"
    elif not full.startswith("/"):
        full = f"{here}/{full}"
    if re.match(r"~[^/]", name) or not _FULL.fullmatch(full) or len(full) > MAX_TOPIC:
        raise V2WError(field, TOPIC_RULE, name if name else "an empty name")
    return full


def check_namespace(name: str, field: str = "--namespace") -> str:
    """The namespace with a slash at its start and none at its end; / for an empty one.

    Raises:
        V2WError: no namespace that ROS accepts.
    """
    full = name if name.startswith("/") else f"/{name}"
    full = full[:-1] if re.search(r"[^/]/$", full) else full
    if full != "/" and (not _FULL.fullmatch(full) or len(full) > MAX_NAMESPACE):
        rule = (
            "a namespace: letters, digits, _ and /, no part that is empty or begins with a digit, "
            f"at most {MAX_NAMESPACE} characters"
        )
        raise V2WError(field, rule, name)
    return full


def check_domain_id(value: str | int, field: str) -> int:
    """A ROS domain as a number.

    Raises:
        V2WError: none that DDS has ports for.
    """
    text = str(value).strip()
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or int(text) > 232:
        rule = "from 0 to 232: DDS takes the ports from 7400 + 250 x ID on, and there are 65535"
        raise V2WError(field, rule, text)
    return int(text)
