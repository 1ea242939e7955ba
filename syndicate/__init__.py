"""Run somebody else's distributed program on many machines, hurt it, and trust what you saw."""

__version__ = "0.1.0"
