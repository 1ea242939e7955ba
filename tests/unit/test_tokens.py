"""Secrets, and the tokens the manager knows them by."""

from __future__ import annotations

import re

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from syndicate.credentials.interface import ITokens
from syndicate.credentials.registry import TokenRegistry
from syndicate.credentials.tokens import hash_secret, new_secret
from syndicate.domain.errors import Unauthorized


def test_a_secret_is_recognisable_and_long() -> None:
    assert re.fullmatch(r"syn_[0-9A-Za-z]{43}", new_secret())


def test_no_two_secrets_are_the_same() -> None:
    assert len({new_secret() for _ in range(1000)}) == 1000


def test_what_is_kept_does_not_show_the_secret() -> None:
    secret = new_secret()
    kept = hash_secret(secret)
    assert re.fullmatch(r"[0-9a-f]{64}", kept)
    assert kept == hash_secret(secret)
    assert kept != hash_secret(secret[:-1])


def test_the_registry_provides_its_port() -> None:
    assert verifyObject(ITokens, TokenRegistry(Clock()))


def test_a_secret_gives_its_token_once_it_is_known() -> None:
    registry = TokenRegistry(Clock())
    secret, token = registry.make("user", "ada", None)
    with pytest.raises(Unauthorized):
        registry.check(secret)
    registry.add([token])
    assert registry.check(secret) == token
    assert secret not in repr(token)


@pytest.mark.parametrize("secret", ["", "syn_", "syn_" + "a" * 43, "ä", "\udc80", "x" * 10_000])
def test_another_secret_is_refused(secret: str) -> None:
    registry = TokenRegistry(Clock())
    registry.add([registry.make("user", "ada", None)[1]])
    with pytest.raises(Unauthorized):
        registry.check(secret)


def test_a_token_ends_at_its_time() -> None:
    clock = Clock()
    registry = TokenRegistry(clock)
    secret, token = registry.make("user", "ada", 100.0)
    registry.add([token])
    clock.advance(99.9)
    assert registry.check(secret) == token
    clock.advance(0.1)
    with pytest.raises(Unauthorized, match="expired"):
        registry.check(secret)
