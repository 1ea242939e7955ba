"""What the manager writes into its audit log, and who may read it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from syndicate.audit.interface import Entry, Kind, Wanted
from syndicate.credentials.identity import VolunteerIdentity
from syndicate.domain.errors import NotYours
from syndicate.manager.refusals import MOST
from syndicate.manager.trust import Joiner
from tests.service.test_api import Make, forever, make_door
from tests.support.traces import LoggedErrors

__all__ = ["make_door"]


async def told(door: Any, **wanted: Any) -> list[Entry]:
    found: list[Entry] = await door.cluster.audit.tail(100, Wanted(**wanted))
    return found


def brief(entries: list[Entry]) -> list[tuple[str, str, str, str]]:
    return [(each.actor.name, each.did, each.on, each.outcome) for each in entries]


@pytest_twisted.ensureDeferred
async def test_all_that_people_change_is_recorded_and_what_they_look_at_is_not(
    make_door: Make,
) -> None:
    door = make_door(1, forever)
    await door.submit()
    await door.ask("GET", "/v1/jobs/1")
    await door.ask("POST", "/v1/jobs/1/cancel", "bob")
    await door.ask("POST", "/v1/jobs/latest/cancel", "boss")
    await door.ask("POST", "/v1/jobs/1/faults/kill", "boss", json={"machine": "master"})
    code, made = await door.ask("POST", "/v1/tokens", "boss", json={"role": "user", "user": "eve"})
    assert code == 201
    entries = await told(door)
    assert brief(entries) == [
        ("ann", "submit", "job 1", "done"),
        ("bob", "cancel", "job 1", "forbidden"),
        ("boss", "cancel", "job 1", "done"),
        ("boss", "inflict", "job 1", "conflict"),
        ("boss", "new token", f"token {made['id']}", "done"),
    ]
    assert entries[3].details["kind"] == "kill"
    assert entries[3].details["machine"] == "master"
    assert made["secret"] not in repr(entries)


@pytest_twisted.ensureDeferred
async def test_nothing_that_is_changed_can_be_called_a_trial(make_door: Make) -> None:
    door = make_door(1, forever)
    await door.submit()
    await door.ask("POST", "/v1/jobs/1/cancel?dry_run=1", "ann")
    code, made = await door.ask(
        "POST", "/v1/tokens?dry_run=1", "boss", json={"role": "user", "user": "eve"}
    )
    assert code == 201
    assert brief(await told(door))[1:] == [
        ("ann", "cancel", "job 1", "done"),
        ("boss", "new token", f"token {made['id']}", "done"),
    ]


@pytest_twisted.ensureDeferred
async def test_what_ended_in_a_defect_of_ours_is_recorded_as_well(
    make_door: Make, monkeypatch: pytest.MonkeyPatch, logged_errors: LoggedErrors
) -> None:
    door = make_door(1, forever)
    await door.submit()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("syndicate.manager.service.cancel", broken)
    assert (await door.ask("POST", "/v1/jobs/1/cancel", "ann"))[0] == 500
    assert brief(await told(door))[1:] == [("ann", "cancel", "job 1", "internal")]
    assert len(logged_errors.flush(ZeroDivisionError)) == 1


@pytest_twisted.ensureDeferred
async def test_secrets_that_somebody_sends_by_mistake_are_not_kept(make_door: Make) -> None:
    door = make_door(1)
    for key in ("secret", "token", "password"):
        asked = {"role": "user", "user": "eve", key: "hunter2"}
        assert (await door.ask("POST", "/v1/tokens", "boss", json=asked))[0] == 400
    entries = await told(door, did="new token")
    assert len(entries) == 3
    assert "hunter2" not in repr([each.details for each in entries])


@pytest_twisted.ensureDeferred
async def test_an_entry_names_token_role_and_address_and_never_the_secret(make_door: Make) -> None:
    door = make_door(1)
    await door.submit()
    (entry,) = await told(door)
    token = door.cluster.manager.tokens.check(door.secrets["ann"])
    actor = entry.actor
    assert (actor.kind, actor.name, actor.role) == (Kind.PERSON, "ann", "user")
    assert (actor.token, actor.address) == (token.id, "127.0.0.1")
    assert door.secrets["ann"] not in repr(entry)
    assert len(entry.details["sha256"]) == 64


@pytest_twisted.ensureDeferred
async def test_who_is_not_let_in_is_recorded(make_door: Make) -> None:
    door = make_door(1)
    assert (await door.ask("GET", "/v1/jobs", None))[0] == 401
    assert (await door.ask("GET", "/v1/jobs", "a wrong secret"))[0] == 401
    assert (await door.ask("GET", "/v1/jobs", "v"))[0] == 403
    assert (await door.ask("PUT", f"/v1/blobs/{'0' * 64}", "odd", data=b"x"))[0] == 401
    entries = await told(door)
    assert [each.outcome for each in entries] == [
        *("unauthorized", "unauthorized", "forbidden", "unauthorized"),
    ]
    assert {each.actor.kind for each in entries} == {Kind.STRANGER}
    assert entries[0].details["request"] == "GET /v1/jobs"
    assert "a wrong secret" not in repr(entries)


@pytest_twisted.ensureDeferred
async def test_refused_requests_of_a_token_beyond_some_are_counted_and_the_count_is_told(
    make_door: Make,
) -> None:
    door = make_door(1)
    await door.submit()
    for _ in range(MOST + 5):
        assert (await door.ask("POST", "/v1/jobs/77/cancel", "ann"))[0] == 404
    assert (await door.ask("POST", "/v1/jobs/77/cancel", "bob"))[0] == 404
    door.cluster.clock.advance(61)
    entries = await told(door)
    refused = [each for each in entries if each.outcome == "not_found"]
    assert [each.actor.name for each in refused] == ["ann"] * MOST + ["bob"]
    (left_out,) = [each for each in entries if each.outcome == "left_out"]
    assert (left_out.actor.name, left_out.actor.token) == ("ann", refused[0].actor.token)
    assert left_out.details["requests"] == 5
    # What is done is recorded all the same, and refusals again after a while.
    await door.submit()
    assert brief(await told(door))[-1][:2] == ("ann", "submit")
    door.cluster.clock.advance(60)
    assert (await door.ask("POST", "/v1/jobs/78/cancel", "ann"))[0] == 404
    assert (await told(door))[-1].outcome == "not_found"


@pytest_twisted.ensureDeferred
async def test_what_was_left_out_is_told_when_the_manager_stops(make_door: Make) -> None:
    door = make_door(1)
    for _ in range(MOST + 2):
        assert (await door.ask("POST", "/v1/jobs/77/cancel", "ann"))[0] == 404
    door.cluster.manager.refusals.close()
    (left_out,) = [each for each in await told(door) if each.outcome == "left_out"]
    assert left_out.details["requests"] == 2


@pytest_twisted.ensureDeferred
async def test_what_is_refused_to_a_volunteer_is_recorded_as_its_own_and_limited(
    make_door: Make,
) -> None:
    door = make_door(1)
    door.secrets["v1"] = door.cluster.manager.fleet.get("v1").session
    path = f"/v1/blobs/{'0' * 64}"
    for n in range(MOST + 3):
        code, _ = await door.ask(*((("PUT", "GET")[n % 2], path, "v1")), data=b"x" * (1 - n % 2))
        assert code == 403
    assert await told(door, kind=Kind.STRANGER) == []
    entries = await told(door)
    assert {(each.actor.name, each.actor.role) for each in entries} == {("v1", "volunteer")}
    assert [each.outcome for each in entries] == ["forbidden"] * MOST
    assert entries[0].details["request"] == f"PUT {path}"
    door.cluster.clock.advance(61)
    (left_out,) = [each for each in await told(door) if each.outcome == "left_out"]
    assert (left_out.actor.name, left_out.details["requests"]) == ("v1", 3)


@pytest_twisted.ensureDeferred
async def test_what_clients_do_to_their_job_is_recorded(make_door: Make) -> None:
    door = make_door(4, forever)
    number = door.cluster.submit_with_clients(machines=2)
    handle = door.cluster.handle(number)
    await handle.fault("kill", {"machine": "slave[0]"}, "t-1")
    with pytest.raises(NotYours):
        await handle.fault("kill", {"machine": "slave[9]"}, None)
    await handle.job()
    await handle.finish({"passed": True})
    entries = await told(door, kind=Kind.CLIENT)
    client = f"client[0] of job {number}"
    assert brief(entries) == [
        (client, "fault", f"job {number}", "done"),
        (client, "fault", f"job {number}", "not_yours"),
        (client, "finish", f"job {number}", "done"),
    ]
    volunteer = door.cluster.job(number).machine("client[0]").volunteer
    assert entries[0].actor.address == volunteer
    assert entries[0].details["arguments"] == {"machine": "slave[0]"}
    assert [each.details.get("fault") for each in entries] == ["f1", None, None]
    assert not any("token" in each.details for each in entries)


@pytest_twisted.ensureDeferred
async def test_operators_read_it_and_nobody_else(make_door: Make) -> None:
    door = make_door(1)
    secret, token = door.cluster.manager.tokens.make("operator", "ops", None)
    door.cluster.manager.tokens.add([token])
    await door.submit()
    assert (await door.ask("GET", "/v1/audit", "boss"))[0] == 403
    code, found = await door.ask("GET", "/v1/audit?who=ann&limit=5", secret)
    assert (code, [each["did"] for each in found["entries"]]) == (200, ["submit"])
    code, found = await door.ask("GET", "/v1/audit?kind=nobody", secret)
    assert (code, found["error"]["code"]) == (400, "invalid")


@pytest_twisted.ensureDeferred
async def test_a_volunteer_that_is_away_since_the_start_is_shown_like_others(
    make_door: Make,
) -> None:
    door = make_door(1)
    issuer = door.cluster.manager.trust
    request = VolunteerIdentity(door.cluster.directory / "v9", "v9").request()
    await issuer.enrol("v9", request, Joiner("", False, "token", "10.0.0.9"))
    _, found = await door.ask("GET", "/v1/volunteers")
    there, away = found["volunteers"]
    assert (away["volunteer"], away["state"]) == ("v9", "gone")
    assert away.keys() == there.keys()
    assert (away["cores"], away["kernel"], away["heard_at"]) == (0, "", None)
    _, status = await door.ask("GET", "/v1/status")
    assert status["volunteers"] == {"free": 1, "gone": 1}


@pytest_twisted.ensureDeferred
async def test_operators_steer_volunteers_by_the_api_and_that_is_recorded(make_door: Make) -> None:
    door = make_door(1)
    secret, token = door.cluster.manager.tokens.make("operator", "ops", None)
    door.cluster.manager.tokens.add([token])
    path = "/v1/volunteers/v1"
    code, found = await door.ask("POST", f"{path}/drain", secret, json={"reason": "new disk"})
    assert (code, found["volunteer"]["state"]) == (200, "drained")
    assert found["volunteer"]["reason"] == "Drained by ops: new disk"
    assert (await door.ask("POST", f"{path}/resume", "boss"))[0] == 403
    code, found = await door.ask("POST", f"{path}/resume", secret)
    assert (code, found["volunteer"]["state"]) == (200, "free")
    code, found = await door.ask("POST", f"{path}/quarantine", secret, json={"why": "?"})
    assert (code, found["error"]["code"]) == (400, "invalid")
    entries = await told(door, on="volunteer v1")
    assert brief(entries) == [
        ("ops", "drain", "volunteer v1", "done"),
        ("boss", "resume", "volunteer v1", "forbidden"),
        ("ops", "resume", "volunteer v1", "done"),
        ("ops", "quarantine", "volunteer v1", "invalid"),
    ]
    assert entries[0].details["reason"] == "new disk"
