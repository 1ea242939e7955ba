"""Finding targets without running a Makefile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.makefile import missing, targets

WANTED = ("master", "slave")


@pytest.mark.parametrize(
    "text",
    [
        "master:\n\techo\nslave:\n\techo\n",
        "master slave: build\n\techo\n",
        "master: ; echo\nslave:: ; echo\n",
        "X = y\n.PHONY: master slave\nmaster slave :\n\techo a:b\n",
        "master \\\n slave: x\n\techo\n",
        "ifdef A\nmaster:\n\techo\nendif\nslave:\n\techo\n",
        "master:\r\n\techo\r\nslave:\r\n\techo\r\n",
        "\ufeffmaster slave:\n\techo\n",
    ],
)
def test_explicit_targets_are_found(text: str) -> None:
    assert missing(text.encode(), WANTED) == ()


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ("", ("master", "slave")),
        ("master:\n\techo\n", ("slave",)),
        ("slave:\n\techo\n", ("master",)),
        ("master := x\nslave ::= y\nall:\n\techo master: slave:\n", ("master", "slave")),
        ("# master: slave:\nmasters:\nslaves:\n", ("master", "slave")),
    ],
)
def test_what_is_surely_missing_is_told(text: str, lacking: tuple[str, ...]) -> None:
    assert missing(text.encode(), WANTED) == lacking


@pytest.mark.parametrize(
    "text",
    [
        "include rules.mk\n",
        "-include rules.mk\n",
        "$(TARGETS):\n\techo\n",
        "%:\n\techo $@\n",
        "$(eval $(call rule,master))\n",
        ".DEFAULT:\n\techo\n",
        "RULE = master slave: ; echo\n$(RULE)\n",
        "R = master slave: ; echo\n  ${R}\n",
        "R = master slave: ; echo\n$R\n",
        "mast?r [s]lave:\n\techo\n",
        "#" * (1 << 20),
    ],
)
def test_a_doubtful_makefile_is_accepted(text: str) -> None:
    assert not targets(text.encode()).certain
    assert missing(text.encode(), WANTED) == ()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(text: bytes) -> None:
    targets(text)
