"""What the packet filter is told, and what is made of what a prober saw."""

from __future__ import annotations

import random
import re
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.errors import Invalid
from syndicate.domain.fault import Links
from syndicate.network import limits, netlink, rules
from syndicate.network.judging import Asked
from syndicate.network.limits import Limit
from syndicate.network.probe import Tally

ONE, TWO, SIX = "10.0.0.1", "10.0.0.2", "fd00::1"

addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
amounts = st.floats(1, 100)


@st.composite
def some_links(draw: st.DrawFn) -> Links:
    """Any links that make sense."""
    some = st.lists(addresses, max_size=4, unique=True).map(tuple)
    pairs = st.lists(st.tuples(addresses, amounts), max_size=3).map(tuple)
    return Links(draw(some), draw(pairs), draw(pairs), draw(pairs), draw(some), draw(some))


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_a_table_has_a_name_that_the_kernel_takes(name: str, key: str) -> None:
    table = rules.table_name(rules.tag(name, Path("/state")), key)
    assert re.fullmatch(r"syn_[A-Za-z0-9_]+", table)
    assert len(table) < 256


def test_volunteers_of_one_name_have_tables_of_their_own() -> None:
    tags = {rules.tag("v1", Path(path)) for path in ("/one", "/two")}
    assert len({rules.table_prefix(tag) for tag in tags}) == 2
    long = "v" * 300
    tags = {rules.tag(long, Path(path)) for path in ("/one", "/two")}
    assert len({rules.table_prefix(tag) for tag in tags}) == 2


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("/sys/fs/cgroup/unified/g", 'level 1 "unified/g"'),
        ("/sys/fs/cgroup/g", 'level 1 "g"'),
        ("/mnt/groups/g", 'level 1 "../../../mnt/groups/g"'),
    ],
)
def test_a_group_is_named_as_the_packet_filter_looks_for_it(group: str, words: str) -> None:
    assert rules.Ours(Path(group), 1).match == f"socket cgroupv2 {words}"


@given(some_links(), some_links())
def test_a_change_touches_our_own_table_only(former: Links, links: Links) -> None:
    for line in rules.change("syn_x", former, links).splitlines():
        assert re.match(
            r"(flush|add) (set|element|chain|rule) inet syn_x (blocked|refused|unheard|shap)", line
        )


@given(some_links(), some_links())
def test_a_change_says_the_whole_whatever_was_before(former: Links, links: Links) -> None:
    text = rules.change("syn_x", former, links)
    for which in ("blocked", "refused", "unheard"):
        wanted = getattr(links, which)
        added = re.findall(rf"add element inet syn_x {which}[46] {{ (.*) }}", text)
        assert sorted(a for line in added for a in line.split(", ")) == sorted(wanted)
        for version in (4, 6):
            assert f"flush set inet syn_x {which}{version}" in text


def test_what_stays_the_same_is_not_begun_anew() -> None:
    links = Links(rate=((ONE, 1000.0),))
    assert "shaping" in rules.change("t", Links(), links)
    assert "shaping" not in rules.change("t", links, attrs.evolve(links, blocked=(TWO,)))


def test_each_time_to_be_held_back_has_a_mark() -> None:
    links = Links(delay=((ONE, 0.5), (TWO, 0.1), (SIX, 0.5)))
    times = rules.delays(links)
    assert sorted(times.values()) == [0.1, 0.5]
    assert len(rules.hold(links).split()) == 5
    text = rules.change("t", Links(), links)
    for mark in times:
        assert f"meta mark set {mark:#x}" in text
    with pytest.raises(Invalid):
        rules.delays(Links(delay=tuple((ONE, index / 100) for index in range(300))))


def test_addresses_are_compared_in_their_usual_form() -> None:
    links = Links(blocked=("FD00:0:0::1",), loss=(("fd00::0001", 5.0),), refused=("10.0.0.1",))
    links = attrs.evolve(links, unheard=("FD00:0:0::1",))
    usual = Links(blocked=(SIX,), loss=((SIX, 5.0),), refused=(ONE,), unheard=(SIX,))
    assert rules.normal(links) == usual


def test_what_is_written_for_the_kernel_is_read_back_alike() -> None:
    body = bytes(4) + netlink.text(1, "name") + netlink.number(2, 7) + netlink.attribute(3, b"x")
    assert netlink.attributes(body) == {1: b"name\0", 2: b"\0\0\0\x07", 3: b"x"}
    data = netlink.message(10, 3, 0, body) + netlink.message(3, 1, 0, b"")
    kinds = [kind for kind, _ in netlink.messages(data)]
    assert kinds == [10 << 8 | 3, 3 << 8 | 1]


# Judging.


def seen(left: int = 0, turned: int = 0, **values: int) -> Tally:
    """What became of datagrams that all came back, or went."""
    given = {"sent": left + turned, "error": 0, "interface": 1, "fastest": 10 if left else -1}
    return Tally(address=ONE, left=left, turned=turned, **{**given, **values})


def good(links: Links, tally: Tally, **values: object) -> bool:
    """Whether that proves these links."""
    heard = values.get("heard")
    asked = Asked.of(links, ONE, values.get("former", ()))  # type: ignore[arg-type]
    return asked.judge(tally, heard)[1]  # type: ignore[arg-type]


BLOCKED = Links(blocked=(ONE,))


@pytest.mark.parametrize(
    ("links", "tally", "proven"),
    [
        (Links(), seen(left=1), True),
        (Links(), seen(turned=1), False),
        (Links(), seen(sent=1), True),  # it waits for its neighbour
        (Links(), seen(error=1), False),
        (BLOCKED, seen(turned=1), True),
        (BLOCKED, seen(left=1), False),
        (BLOCKED, seen(sent=1), False),
        (BLOCKED, seen(error=101), False),  # nobody knows, without a route
        (Links(loss=((ONE, 100.0),)), seen(turned=50), True),
        (Links(loss=((ONE, 100.0),)), seen(left=1, turned=49), False),
        (Links(loss=((ONE, 30.0),)), seen(left=70, turned=30), True),
        (Links(loss=((ONE, 30.0),)), seen(left=100), False),
        (Links(loss=((ONE, 30.0),)), seen(turned=100), False),
        (Links(loss=((ONE, 0.1),)), seen(left=1000), True),  # too rare to be shown
        (Links(rate=((ONE, 1000.0),)), seen(left=7, turned=3), True),
        (Links(rate=((ONE, 1000.0),)), seen(left=11), False),
        (Links(delay=((ONE, 0.1),)), seen(left=1, fastest=100_500), True),
        (Links(delay=((ONE, 0.1),)), seen(left=1, fastest=50), False),
        (Links(delay=((ONE, 0.1),)), seen(left=1, fastest=900_000), False),
        (Links(delay=((ONE, 60.0),)), seen(sent=1), True),
    ],
)
def test_a_proof_is_one_only_if_it_could_have_failed(
    links: Links, tally: Tally, proven: bool
) -> None:
    assert good(links, tally) is proven


FAST = Links(rate=((ONE, 1e6),))


@pytest.mark.parametrize(
    ("links", "tally", "limit", "proven"),
    [
        (FAST, seen(left=1), Limit(1_000_000, 1), True),
        (FAST, seen(sent=1), Limit(1_000_000, 1), True),  # it waits for its neighbour
        (FAST, seen(turned=1), Limit(1_000_000, 1), True),  # the job itself has used it up
        (FAST, seen(left=1), None, False),
        (FAST, seen(left=1), Limit(999_999, 1), False),
        (FAST, seen(left=1), Limit(1_000_000, 0), False),
        (attrs.evolve(FAST, loss=((ONE, 100.0),)), seen(turned=50), Limit(1_000_000, 0), True),
        (attrs.evolve(FAST, loss=((ONE, 50.0),)), seen(25, 25), Limit(1_000_000, 24), False),
        (attrs.evolve(FAST, blocked=(ONE,)), seen(turned=1), None, True),
    ],
)
def test_a_rate_that_no_trial_uses_up_is_proven_by_the_kernels_own_listing(
    links: Links, tally: Tally, limit: Limit | None, proven: bool
) -> None:
    proof, is_good = Asked.of(links, ONE).judge(tally, None, limit)
    assert is_good is proven
    if proven and limit is not None:
        assert "the kernel lists a limit of 1000000 bytes per second" in proof.seen


@pytest.mark.parametrize(
    ("told", "rate"),
    [("300 kbytes", 307_200), ("1 mbytes", 1 << 20), ("1000000000 bytes", 10**9)],
)
def test_the_kernels_units_are_read(told: str, rate: int) -> None:
    listing = (
        "ip daddr 10.0.0.1 numgen random mod 1000000 < 500000 goto turned\n"
        f"ip daddr 10.0.0.1 counter packets 3 bytes 84 limit rate over {told}/second burst 10000"
        " bytes goto turned\n"
        f"ip6 daddr fd00::1 counter packets 5 bytes 84 limit rate over {told}/second\n"
    )
    now = limits.read(listing)
    assert now == {ONE: Limit(rate, 3), SIX: Limit(rate, 5)}
    assert limits.since({ONE: Limit(rate, 2)}, now) == {ONE: Limit(rate, 1), SIX: Limit(rate, 5)}


def test_what_was_held_back_must_not_be_any_more() -> None:
    assert not good(Links(), seen(left=1, fastest=100_000), former=(0.1,))
    assert good(Links(), seen(left=1, fastest=300), former=(0.1,))
    assert good(Links(), seen(sent=1), former=(0.1,))  # its neighbour may be gone meanwhile


def test_what_is_let_in_is_judged_where_it_was_tried() -> None:
    refused = Links(refused=(ONE,))
    assert good(refused, seen(left=1), heard=set())
    assert not good(refused, seen(left=1), heard={ONE})
    assert good(Links(), seen(left=1), heard={ONE})
    assert not good(Links(), seen(left=1), heard=set())


@given(st.floats(0.5, 99.5), st.integers(0, 2**32))
def test_chance_alone_refutes_no_loss(percent: float, seed: int) -> None:
    links = Links(loss=((ONE, percent),))
    count = Asked.of(links, ONE).attempt().count
    chance = random.Random(seed)
    turned = sum(chance.random() * 100 < percent for _ in range(count))
    assert good(links, seen(left=count - turned, turned=turned))
