"""A cluster on one machine: `syndicate.lab.Lab`, which is `syndicate.lab.cluster.Lab`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syndicate.lab.cluster import Lab

__all__ = ["Lab"]


def __getattr__(name: str) -> Any:
    # Late, since every command that finds its cluster through `syndicate.lab.state` comes by here.
    if name == "Lab":
        from syndicate.lab.cluster import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
