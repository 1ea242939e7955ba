"""What every implementation of the network's ports promises."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from zope.interface.verify import verifyObject

from syndicate.domain.errors import Conflict, Invalid, NotClean, SandboxFailed
from syndicate.domain.fault import ON_LINKS, Links
from syndicate.network.interface import GROUP, Doors, IGuard, INetworkFaults, Proof
from syndicate.network.libnftables import Nftables
from syndicate.network.memory import MemoryFaults
from syndicate.network.nft import NftFaults
from tests.support.sandboxes import the_reactor

#: Where packets go and nothing happens: no other host is needed.
PEERS = ("127.90.1.1", "127.90.1.2", "127.90.1.3")
ONE, TWO, THREE = PEERS

_CLONE_NEWNET = 0x40000000


@pytest.fixture
def own_network() -> Iterator[None]:
    """A network namespace of its own for this thread, and what it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    former = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    assert libc.unshare(_CLONE_NEWNET) == 0
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        assert libc.setns(former, _CLONE_NEWNET) == 0
        os.close(former)


@pytest.fixture(params=["memory", pytest.param("nft", marks=pytest.mark.needs_root)])
def faults(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """One that has probed."""
    reactor = the_reactor()
    if request.param == "memory":
        made: Any = MemoryFaults(reactor)
    else:
        request.getfixturevalue("own_network")
        made = NftFaults(reactor, tmp_path, "contract", reactor)
    pytest_twisted.blockon(made.probe())
    yield made
    pytest_twisted.blockon(made.close())


@pytest.fixture
def guard(faults: Any) -> Any:
    return pytest_twisted.blockon(faults.guard("1.1.master", PEERS))


def status_of(pid: str) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


async def verified(guard: Any, links: Links) -> dict[str, bool]:
    """What passes, by address."""
    return {proof.address: proof.passes for proof in await guard.verify(links)}


async def refuted(guard: Any, links: Links) -> Conflict:
    with pytest.raises(Conflict) as caught:
        await guard.verify(links)
    return caught.value


def test_the_interfaces_are_provided(faults: Any, guard: Any) -> None:
    verifyObject(INetworkFaults, faults)
    verifyObject(IGuard, guard)


@pytest_twisted.ensureDeferred
async def test_each_kind_of_fault_is_supported_or_said_why_not(faults: Any) -> None:
    facts = await faults.probe()
    told = [*facts.supported, *(kind for kind, _ in facts.unsupported)]
    assert sorted(told) == sorted(kind.value for kind in ON_LINKS)
    assert all(why.endswith(".") for _, why in facts.unsupported)


@pytest_twisted.ensureDeferred
async def test_everything_passes_at_first(guard: Any) -> None:
    assert await verified(guard, Links()) == dict.fromkeys(PEERS, True)
    await refuted(guard, Links(blocked=(ONE,)))


@pytest_twisted.ensureDeferred
async def test_what_is_blocked_does_not_pass_and_the_rest_does(guard: Any) -> None:
    links = Links(blocked=(ONE, THREE))
    before = the_reactor().seconds()
    assert before <= await guard.apply(links) <= the_reactor().seconds()
    assert await verified(guard, links) == {ONE: False, TWO: True, THREE: False}
    refutal = await refuted(guard, Links())
    assert [proof["address"] for proof in refutal.details["proofs"]] == list(PEERS)
    assert [proof["passes"] for proof in refutal.details["proofs"]] == [False, True, False]


@pytest_twisted.ensureDeferred
async def test_links_are_the_whole_and_never_a_difference(guard: Any) -> None:
    for blocked in ((ONE,), (TWO,), (ONE, TWO), (), (THREE,)):
        links = Links(blocked=blocked)
        for _ in range(2):  # the same again is nothing new
            await guard.apply(links)
        passing = {peer: peer not in blocked for peer in PEERS}
        assert await verified(guard, links) == passing


@pytest.mark.parametrize(
    "links",
    [
        Links(loss=((ONE, 50.0),)),
        Links(loss=((ONE, 1.0), (TWO, 100.0))),
        Links(rate=((ONE, 20_000.0),)),
        Links(rate=((ONE, 1e9),)),
        Links(delay=((ONE, 0.02), (TWO, 0.05))),
        Links(refused=(ONE, TWO)),
        Links(
            blocked=(ONE,),
            refused=(ONE,),
            loss=((TWO, 30.0),),
            rate=((TWO, 1e6),),
            delay=((THREE, 0.01),),
        ),
    ],
    ids=["loss", "losses", "rate", "high rate", "delay", "refused", "all"],
)
@pytest_twisted.ensureDeferred
async def test_every_kind_is_proven_and_so_is_its_end(guard: Any, links: Links) -> None:
    await guard.apply(links)
    await guard.verify(links)
    await guard.apply(Links())
    assert await verified(guard, Links()) == dict.fromkeys(PEERS, True)


@pytest.mark.parametrize(
    "links",
    [
        Links(blocked=("10.0.0",)),
        Links(refused=("everybody",)),
        Links(loss=((ONE, 101.0),)),
        Links(loss=((ONE, -1.0),)),
        Links(rate=((ONE, 0.0),)),
        Links(delay=((ONE, -0.1),)),
        Links(blocked=("127.0.0.1 }; flush ruleset",)),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_makes_no_sense_is_refused_and_changes_nothing(guard: Any, links: Links) -> None:
    await guard.apply(Links(blocked=(ONE,)))
    with pytest.raises(Invalid):
        await guard.apply(links)
    await guard.verify(Links(blocked=(ONE,)))


@pytest_twisted.ensureDeferred
async def test_ports_are_shut_for_jobs_and_what_is_no_address_is_refused(faults: Any) -> None:
    assert await faults.shut(Doors(closed=((ONE, 7080),), own=(7080,))) == GROUP
    again = Doors(closed=(("::1", 1),), open=((TWO, 2),), everywhere=(3,), uids=(20000, 20001))
    assert await faults.shut(again) == GROUP
    with pytest.raises(Invalid):
        await faults.shut(Doors(closed=(("nowhere", 7080),)))
    guard = await faults.guard("1.1.master", PEERS)  # which has nothing to do with it
    assert await verified(guard, Links()) == dict.fromkeys(PEERS, True)


@pytest_twisted.ensureDeferred
async def test_one_guard_stands_at_a_time(faults: Any, guard: Any) -> None:
    with pytest.raises(Conflict):
        await faults.guard("1.1.other", PEERS)
    await guard.close()
    following = await faults.guard("1.1.other", PEERS)
    assert await verified(following, Links()) == dict.fromkeys(PEERS, True)


@pytest_twisted.ensureDeferred
async def test_a_closed_guard_has_lifted_everything_and_does_nothing_more(guard: Any) -> None:
    await guard.apply(Links(blocked=(ONE,), loss=((TWO, 100.0),), refused=(ONE,)))
    await guard.close()
    assert await verified(guard, Links()) == dict.fromkeys(PEERS, True)
    with pytest.raises(Conflict):
        await guard.apply(Links(blocked=(ONE,)))
    await guard.close()


@pytest_twisted.ensureDeferred
async def test_there_is_nothing_to_sweep_after_an_orderly_end(faults: Any, guard: Any) -> None:
    await guard.apply(Links(blocked=(ONE,)))
    await faults.close()
    assert await faults.sweep() == 0
    await faults.close()


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("silenced", "why"),
    [(("delete",), "the table .* is there"), (("delete", "list"), "was turned back")],
)
@pytest_twisted.ensureDeferred
async def test_a_cut_that_stays_though_it_was_lifted_is_told(
    own_network: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    silenced: tuple[str, ...],
    why: str,
) -> None:
    """Neither the table nor, were the packet filter to deny that, the packets go unseen."""
    reactor = the_reactor()
    faults = NftFaults(reactor, tmp_path, "contract", reactor)
    await faults.probe()
    guard = await faults.guard("1.1.master", PEERS)
    await guard.apply(Links(blocked=(TWO,)))
    really, kept = Nftables.run, []

    def run(self: Nftables, text: str) -> str:
        if text.startswith(silenced):
            kept.append((self, text))
            return ""
        return really(self, text)

    with monkeypatch.context() as patch:
        patch.setattr(Nftables, "run", run)
        with pytest.raises(NotClean, match=why):
            await guard.close()
    really(*kept[0])
    await guard.close()
    await faults.close()


@pytest.mark.needs_root
@pytest_twisted.ensureDeferred
async def test_a_prober_that_has_ended_is_replaced(own_network: None, tmp_path: Path) -> None:
    reactor = the_reactor()
    faults = NftFaults(reactor, tmp_path, "contract", reactor)
    await faults.probe()
    assert faults.group is not None
    guard = await faults.guard("1.1.master", PEERS)
    for pid in (faults.group / "prober" / "cgroup.procs").read_text().split():
        os.kill(int(pid), 9)
    await guard.apply(Links(blocked=(ONE,)))
    proofs: tuple[Proof, ...] = ()
    while not proofs:
        # Who asks before the news of its end is here may be told of that.
        with contextlib.suppress(SandboxFailed):
            proofs = await guard.verify(Links(blocked=(ONE,)))
    assert [proof.passes for proof in proofs] == [False, True, True]
    await faults.close()


@pytest.mark.needs_root
@pytest_twisted.ensureDeferred
async def test_the_prober_has_no_rights_and_is_no_process_of_the_job(
    own_network: None, tmp_path: Path
) -> None:
    reactor = the_reactor()
    faults = NftFaults(reactor, tmp_path, "contract", reactor)
    await faults.probe()
    assert faults.group is not None
    assert (faults.group / "cgroup.procs").read_text() == ""
    (pid,) = (faults.group / "prober" / "cgroup.procs").read_text().split()
    status = status_of(pid)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
    assert status["Groups"].strip() == ""
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind], 16) == 0
    await faults.close()
