"""What every way to a client's door promises: the same calls, the same answers, the same errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from syndicate.client.door import Door
from syndicate.client.interface import IHandle
from syndicate.domain import errors
from tests.support.handles import MACHINES, ScriptedHandle
from tests.support.sandboxes import the_reactor
from tests.support.traces import LoggedErrors
from tests.support.ways import WAYS, Refused, Way

ensure = pytest_twisted.ensureDeferred


@pytest.fixture
def handle() -> ScriptedHandle:
    return ScriptedHandle()


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest, tmp_path: Path, handle: ScriptedHandle) -> Iterator[Way]:
    directory = tmp_path / "door"
    directory.mkdir()
    door = Door(the_reactor(), directory, os.geteuid(), handle)
    pytest_twisted.blockon(door.open())
    way = pytest_twisted.blockon(Deferred.fromCoroutine(WAYS[request.param].to(directory)))
    yield way
    pytest_twisted.blockon(Deferred.fromCoroutine(way.close()))
    pytest_twisted.blockon(door.close())


def asked(handle: ScriptedHandle) -> list[tuple[str, Any]]:
    """The faults that the handle was asked for, and with what."""
    return [(call[1], call[2]) for call in handle.calls if call[0] == "fault"]


def test_the_handle_of_the_tests_is_one(handle: ScriptedHandle) -> None:
    assert verifyObject(IHandle, handle)


@ensure
async def test_the_job_says_which_machines_there_are_and_how_they_are(
    way: Way, handle: ScriptedHandle
) -> None:
    job = await way.job()
    assert job == handle._job()
    assert {machine["name"]: machine["ip"] for machine in job["machines"]} == MACHINES
    handle.down.add("slave[0]")
    job = await way.job()
    assert [machine["up"] for machine in job["machines"]] == [True, False, True, True]


@pytest.mark.parametrize("kind", ["kill", "disconnect", "reconnect", "pause", "resume"])
@ensure
async def test_a_fault_is_asked_for_and_its_record_comes_back(
    way: Way, handle: ScriptedHandle, kind: str
) -> None:
    fault = await way.fault(kind, "slave[1]")
    assert asked(handle) == [(kind, {"machine": "slave[1]"})]
    assert dict(fault) == handle.done[0]
    assert fault["state"] == "verified"
    assert {"id", "requested_at", "applied_at", "verified_at"} <= fault.keys()


@ensure
async def test_a_machine_is_named_by_its_address_too(way: Way, handle: ScriptedHandle) -> None:
    fault = await way.fault("kill", "10.0.0.3")
    assert asked(handle) == [("kill", {"ip": "10.0.0.3"})]
    assert fault["machines"] == ["slave[1]"]


@ensure
async def test_a_fault_may_be_for_a_time(way: Way, handle: ScriptedHandle) -> None:
    await way.fault("disconnect", "slave0", for_="10s")
    assert asked(handle) == [("disconnect", {"machine": "slave0", "for": "10s"})]


@pytest.mark.parametrize("with_disk", [True, False])
@ensure
async def test_what_is_revived_keeps_its_disk_or_not(
    way: Way, handle: ScriptedHandle, with_disk: bool
) -> None:
    handle.down.add("slave[0]")
    await way.fault("revive", "slave[0]", with_disk=with_disk)
    assert asked(handle) == [("revive", {"machine": "slave[0]", "with_disk": with_disk})]


@ensure
async def test_a_partition_has_groups_and_a_shape(way: Way, handle: ScriptedHandle) -> None:
    groups = [["master", "slave[0]"], ["slave[1]"]]
    await way.fault("partition", None, groups=groups, shape="split", one_way=True, for_="5s")
    wanted = {"groups": groups, "shape": "split", "one_way": True, "for": "5s"}
    assert asked(handle) == [("partition", wanted)]


@pytest.mark.parametrize(
    ("kind", "values"),
    [("loss", {"percent": 12.5}), ("rate", {"rate": "100K"})],
)
@ensure
async def test_an_amount_goes_with_a_fault(
    way: Way, handle: ScriptedHandle, kind: str, values: dict[str, Any]
) -> None:
    await way.fault(kind, "master", **values)
    assert asked(handle) == [(kind, {"machine": "master", **values})]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotYours("none of yours"), "not_yours"),
        (errors.AlreadyRunning("it runs"), "already_running"),
        (errors.Unsupported("it cannot"), "unsupported"),
        (errors.Revoked("it is over"), "revoked"),
        (errors.Conflict("it does not fit"), "conflict"),
        (errors.Timeout("too late"), "timeout"),
        (errors.Unknown("it is away", fault="f1"), "unknown"),
        (errors.SandboxFailed("it broke"), "sandbox_failed"),
        (errors.Invalid("that is nonsense"), "invalid"),
    ],
)
@ensure
async def test_a_refusal_says_why(
    way: Way, handle: ScriptedHandle, error: errors.SyndicateError, code: str
) -> None:
    handle.refusals["fault"] = [error]
    with pytest.raises(Refused) as refused:
        await way.fault("kill", "slave[0]")
    assert (refused.value.code, refused.value.message) == (code, error.message)


@ensure
async def test_a_defect_is_told_as_one_and_logged_at_home(
    way: Way, handle: ScriptedHandle, logged_errors: LoggedErrors
) -> None:
    handle.refusals["fault"] = [ZeroDivisionError("secret")]
    with pytest.raises(Refused) as refused:
        await way.fault("kill", "slave[0]")
    assert refused.value.code == "internal"
    assert "secret" not in refused.value.message
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


@ensure
async def test_machines_of_others_and_none_are_the_same(way: Way) -> None:
    for name in ("10.9.9.9", "slave[7]", "somebody"):
        with pytest.raises(Refused) as refused:
            await way.fault("kill", name)
        assert refused.value.code == "not_yours"


@ensure
async def test_faults_are_listed_and_healed(way: Way, handle: ScriptedHandle) -> None:
    for name in ("slave[0]", "slave[1]", "master"):
        await way.fault("disconnect", name)
    assert await way.heal("f2") == {"healed": ["f2"]}
    assert [f["state"] for f in (await way.faults())["faults"]] == [
        "verified",
        "healed",
        "verified",
    ]
    assert await way.heal(None) == {"healed": ["f1", "f3"]}
    with pytest.raises(Refused) as refused:
        await way.heal("f9")
    assert refused.value.code == "not_found"


@ensure
async def test_one_fault_is_shown_by_its_id_or_its_key(way: Way, handle: ScriptedHandle) -> None:
    await way.fault("kill", "slave[0]")
    await way.fault("disconnect", "slave[1]")
    assert await way.show("f2") == handle.done[1]
    for key, fault in handle.by_token.items():
        assert await way.show(key) == fault
    with pytest.raises(Refused) as refused:
        await way.show("f9")
    assert refused.value.code == "not_found"


@ensure
async def test_finish_needs_no_words(way: Way, handle: ScriptedHandle) -> None:
    finished = await way.finish()
    assert finished == {"finished": "client[0]", "passed": True, "score": None, "notes": ""}


@ensure
async def test_finish_takes_a_result_and_the_first_one_counts(
    way: Way, handle: ScriptedHandle
) -> None:
    await way.finish(passed=False, score=97.5, notes="lost 3 writes")
    assert handle.result == {"passed": False, "score": 97.5, "notes": "lost 3 writes"}
    again = await way.finish(passed=True)
    assert (again["passed"], again["score"]) == (False, 97.5)


@ensure
async def test_marks_are_noted(way: Way, handle: ScriptedHandle) -> None:
    assert (await way.mark("phase 2: Grüße"))["marked"] == "phase 2: Grüße"
    assert handle.marks == ["phase 2: Grüße"]


@ensure
async def test_samples_are_kept(way: Way, handle: ScriptedHandle) -> None:
    await way.sample("put", 1.9, ok=True)
    await way.sample("get it", 250, ok=False)
    put, get = handle.kept
    assert b'"op": "put", "ms": 1.9' in put
    assert put.endswith(b'"ok": true}')
    assert b'"op": "get it", "ms": 250' in get
    assert get.endswith(b'"ok": false}')


@ensure
async def test_events_come_from_a_number_on_until_the_job_is_over(
    way: Way, handle: ScriptedHandle
) -> None:
    for kind in ("running", "fault", "mark"):
        handle.happen(kind)
    listening = Deferred.fromCoroutine(way.events(1))
    reactor = the_reactor()
    reactor.callLater(0.2, handle.happen, "machine-killed", machine="slave[0]")
    reactor.callLater(0.4, handle.finish_job, errors.Revoked("The attempt is over."))
    assert await listening == handle.happened[1:]
    assert [event["n"] for event in handle.happened] == [1, 2, 3, 4]
