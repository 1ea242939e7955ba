from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.sandbox.patterns import expression_of


def matches(pattern: str, path: str) -> bool:
    return re.fullmatch(expression_of(pattern), path) is not None


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("a.txt", ["a.txt"], ["b.txt", "a_txt", "x/a.txt"]),
        ("results", ["results", "results/a", "results/a/b"], ["results2", "x/results"]),
        ("results/", ["results/a"], ["other"]),
        ("./results//x", ["results/x"], ["x"]),
        ("*.csv", ["a.csv", ".csv"], ["a/b.csv", "a.csvx"]),
        ("*/x", ["a/x", "b/x/y"], ["x", "a/b/x"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax"]),
        ("a/**/x", ["a/x", "a/b/x", "a/b/c/x"], ["x", "b/x", "a/bx"]),
        ("**", ["a", "a/b"], []),
        ("a/**", ["a/b", "a/b/c"], ["a", "b"]),
        ("a?c", ["abc", "a?c"], ["ac", "a/c"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
        ("[!a-c]x", ["dx"], ["ax"]),
        ("[]]", ["]"], ["[]]"]),
        ("[", ["["], []),
        ("[z-a]", ["[z-a]"], ["b"]),
        ("a[!x]b", ["ayb"], ["a/b", "axb"]),
        ("[!]", ["[!]"], []),
        ("[]", ["[]"], []),
        ("a+(b)", ["a+(b)"], ["aab"]),
        ("ä*", ["ägypten"], ["agypten"]),
    ],
)
def test_a_pattern_matches_what_a_shell_would(
    pattern: str, good: list[str], bad: list[str]
) -> None:
    assert [path for path in good if not matches(pattern, path)] == []
    assert [path for path in bad if matches(pattern, path)] == []


@given(st.text(max_size=30) | st.text("[]!^-a\\z&|~.*?", max_size=12))
def test_every_pattern_is_a_good_expression(pattern: str) -> None:
    re.compile(expression_of(pattern))


@given(st.text(st.characters(exclude_characters="*?[]/.", exclude_categories=["Cs"]), min_size=1))
def test_plain_text_matches_just_itself(text: str) -> None:
    assert matches(text, text)
    assert not matches(text, f"{text}x")
