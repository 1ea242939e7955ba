"""A volunteer's blobs and logs over real HTTPS, and over links that break."""

from __future__ import annotations

import hashlib
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from zope.interface.verify import verifyObject

from syndicate.blobs.connections import IDLE
from syndicate.blobs.files import FileBlobStore
from syndicate.blobs.interface import IBlobTransfer
from syndicate.blobs.logs import FileLogStore
from syndicate.blobs.transfer import DEADLINE, HttpsTransfer
from syndicate.credentials.authority import Authority, ensure_authority
from syndicate.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    StorageFull,
    TooLarge,
    Unauthorized,
    Unavailable,
    VolunteerLost,
)
from tests.support.doors import Door, Silent, token_of
from tests.support.sandboxes import the_reactor
from tests.support.tiny_disk import fill, tiny_disk

ensure = pytest_twisted.ensureDeferred

LIMIT = 8 << 20
DATA = os.urandom(1_500_000)
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return ensure_authority(tmp_path_factory.mktemp("authority"), [])


@attrs.define(eq=False)
class Ends:
    """A door, and whoever talks to it."""

    door: Door
    directory: Path
    authority: Authority
    #: The volunteer's blobs.
    cache: FileBlobStore
    made: list[HttpsTransfer] = attrs.field(factory=list)

    def dial(self, port: int | None = None, *, bearer: Any = None, **values: Any) -> HttpsTransfer:
        """A volunteer's end, by way of another port perhaps."""
        transfer = HttpsTransfer(
            the_reactor(),
            "127.0.0.1",
            port or self.door.port,
            values.get("ca_file", self.authority.ca_file),
            bearer or token_of("good"),
            values.get("clock", the_reactor()),
        )
        self.made.append(transfer)
        return transfer

    @property
    def blobs(self) -> FileBlobStore:
        """The manager's."""
        assert isinstance(self.door.blobs, FileBlobStore)
        return self.door.blobs

    async def provide(self, data: bytes = DATA) -> str:
        """Have the manager hold a blob; gives its digest."""
        await put(self.blobs, data)
        return hashlib.sha256(data).hexdigest()

    def file(self, data: bytes = DATA) -> Path:
        """A file of the volunteer's."""
        path = self.directory / "outputs.tar"
        path.write_bytes(data)
        return path

    async def close(self) -> None:
        for transfer in self.made:
            await transfer.close()
        await self.door.close()


@pytest.fixture
def ends(tmp_path: Path, authority: Authority) -> Iterator[Ends]:
    reactor = the_reactor()
    logs = FileLogStore(tmp_path / "logs", 1 << 20, the_reactor())
    door = Door(reactor, authority, FileBlobStore(tmp_path / "blobs", LIMIT, reactor), logs)
    ends = Ends(door, tmp_path, authority, FileBlobStore(tmp_path / "cache", LIMIT, reactor))
    yield ends
    pytest_twisted.blockon(Deferred.fromCoroutine(ends.close()))
    logs.close()
    assert [each.name for each in threading.enumerate() if "transfer" in each.name] == []


async def put(store: Any, data: bytes) -> None:
    writer = store.write(hashlib.sha256(data).hexdigest(), len(data))
    writer.write(data[writer.offset :])
    await writer.finish()


def leave(store: Any, beginning: bytes) -> None:
    writer = store.write(NAME, len(DATA))
    writer.write(beginning)
    writer.abandon()


async def a_moment(seconds: float = 0.02) -> None:
    await deferLater(the_reactor(), seconds, lambda: None)


async def pass_time(clock: Clock, waiting: Deferred[Any]) -> None:
    """Let time pass until something has come to its end."""
    over: list[object] = []

    def note(result: Any) -> Any:
        over.append(result)
        return result

    waiting.addBoth(note)
    while not over:
        await a_moment(0.01)
        clock.advance(1)


# Downloads.


@ensure
async def test_it_provides_its_port(ends: Ends) -> None:
    assert verifyObject(IBlobTransfer, ends.dial())


@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=len)
@ensure
async def test_a_blob_is_brought(ends: Ends, data: bytes) -> None:
    name = await ends.provide(data)
    path = await ends.dial().download(name, len(data), ends.cache)
    assert path == ends.cache.path(name)
    assert path.read_bytes() == data


@ensure
async def test_a_blob_that_is_there_is_not_brought(ends: Ends) -> None:
    await put(ends.cache, DATA)
    await ends.dial().download(NAME, len(DATA), ends.cache)
    assert ends.door.requests == []


@ensure
async def test_two_downloads_of_one_blob_are_one(ends: Ends) -> None:
    await ends.provide()
    transfer = ends.dial()
    first = transfer.download(NAME, len(DATA), ends.cache)
    second = transfer.download(NAME, len(DATA), ends.cache)
    assert await first == await second == ends.cache.path(NAME)
    assert ends.door.requests == [("GET", f"/v1/blobs/{NAME}", None)]


@ensure
async def test_one_of_two_who_gives_up_does_not_stop_the_other(ends: Ends) -> None:
    await ends.provide()
    transfer = ends.dial()
    first = transfer.download(NAME, len(DATA), ends.cache)
    second = transfer.download(NAME, len(DATA), ends.cache)
    first.addErrback(lambda failure: None)
    first.cancel()
    assert await second == ends.cache.path(NAME)


@ensure
async def test_a_download_goes_on_where_the_link_broke(ends: Ends) -> None:
    await ends.provide()
    weak = ends.door.weak_link(300_000, 10, 500_000)
    path = await ends.dial(weak).download(NAME, len(DATA), ends.cache)
    assert path.read_bytes() == DATA
    positions = [position for _, _, position in ends.door.requests]
    starts = [int(each.removeprefix("bytes=").rstrip("-")) for each in positions[1:] if each]
    assert positions[0] is None
    assert starts == sorted(set(starts))
    assert len(starts) == 2
    assert 200_000 < starts[0] < 300_000
    assert 600_000 < starts[1] < 800_000


@ensure
async def test_a_download_goes_on_with_what_an_earlier_process_left(ends: Ends) -> None:
    await ends.provide()
    leave(ends.cache, DATA[:1000])
    path = await ends.dial().download(NAME, len(DATA), ends.cache)
    assert path.read_bytes() == DATA
    assert ends.door.requests == [("GET", f"/v1/blobs/{NAME}", "bytes=1000-")]


@ensure
async def test_a_beginning_that_is_whole_is_checked_and_not_brought(ends: Ends) -> None:
    leave(ends.cache, DATA)
    assert (await ends.dial().download(NAME, len(DATA), ends.cache)).read_bytes() == DATA
    assert ends.door.requests == []


@ensure
async def test_a_damaged_beginning_is_brought_again(ends: Ends) -> None:
    await ends.provide()
    leave(ends.cache, bytes(1000))
    path = await ends.dial().download(NAME, len(DATA), ends.cache)
    assert path.read_bytes() == DATA
    assert [position for _, _, position in ends.door.requests] == ["bytes=1000-", None]


@ensure
async def test_a_blob_that_the_manager_lacks_is_not_found(ends: Ends) -> None:
    with pytest.raises(NotFound):
        await ends.dial().download(NAME, len(DATA), ends.cache)
    assert len(ends.door.requests) == 1
    assert ends.cache.held(NAME) == 0


@ensure
async def test_a_blob_that_is_damaged_at_the_manager_is_not_kept(ends: Ends) -> None:
    await ends.provide()
    ends.blobs.path(NAME).write_bytes(bytes(len(DATA)))
    with pytest.raises(Invalid):
        await ends.dial().download(NAME, len(DATA), ends.cache)
    assert ends.cache.size(NAME) is None
    assert ends.cache.held(NAME) == 0


@pytest.mark.parametrize("wrong", [1000, len(DATA) + 1000])
@ensure
async def test_a_blob_of_another_size_than_was_said_is_refused(ends: Ends, wrong: int) -> None:
    await ends.provide()
    with pytest.raises(Invalid):
        await ends.dial().download(NAME, wrong, ends.cache)
    assert ends.cache.size(NAME) is None


@pytest.mark.needs_root
@ensure
async def test_a_full_disk_of_the_volunteer_is_told_at_once(ends: Ends) -> None:
    await ends.provide()
    with tiny_disk(ends.directory / "disk", 4 << 20) as disk:
        cache = FileBlobStore(disk / "cache", LIMIT, the_reactor())
        # It looks as if there were room, until something else takes it.
        writer = cache.write(NAME, len(DATA))
        fill(disk, leave=100_000)
        writer.abandon()
        with pytest.raises(StorageFull):
            await ends.dial().download(NAME, len(DATA), cache)


@ensure
async def test_an_unreachable_manager_is_given_up_after_a_while(ends: Ends) -> None:
    clock = Clock()
    transfer = ends.dial(clock=clock)
    await ends.door.close()
    waiting = transfer.download(NAME, len(DATA), ends.cache)
    await pass_time(clock, waiting)
    with pytest.raises(VolunteerLost, match="refused"):
        await waiting
    assert DEADLINE <= clock.seconds() < 2 * DEADLINE
    assert ends.cache.held(NAME) == 0


@ensure
async def test_a_manager_of_another_authority_gets_no_word(ends: Ends, tmp_path: Path) -> None:
    clock = Clock()
    other = ensure_authority(tmp_path / "other", [])
    waiting = ends.dial(ca_file=other.ca_file, clock=clock).download(NAME, 1, ends.cache)
    await pass_time(clock, waiting)
    with pytest.raises(VolunteerLost, match="certificate verify failed"):
        await waiting
    assert ends.door.requests == []


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for content in (None, b"no certificate"):
        if content is not None:
            (tmp_path / "ca.pem").write_bytes(content)
        what = "cannot be read" if content is None else "holds no certificate"
        with pytest.raises(Invalid, match=rf"ca\.pem {what}.* Copy ca\.pem of") as refused:
            HttpsTransfer(the_reactor(), "127.0.0.1", 1, tmp_path / "ca.pem", str, the_reactor())
        assert "_ssl" not in str(refused.value)


@ensure
async def test_a_session_that_is_renewed_meanwhile_is_waited_for(ends: Ends) -> None:
    await ends.provide()
    transfer = ends.dial(bearer=token_of("old", "old", "good"))
    assert (await transfer.download(NAME, len(DATA), ends.cache)).exists()
    assert len(ends.door.requests) == 3


@ensure
async def test_a_token_that_stays_unknown_is_told_in_the_end(ends: Ends) -> None:
    clock = Clock()
    waiting = ends.dial(bearer=token_of("bad"), clock=clock).download(NAME, 1, ends.cache)
    await pass_time(clock, waiting)
    with pytest.raises(Unauthorized):
        await waiting


@ensure
async def test_a_manager_that_cannot_now_is_asked_again(ends: Ends) -> None:
    await ends.provide()
    ends.door.refusals = [Unavailable("starting"), Unavailable("starting")]
    assert (await ends.dial().download(NAME, len(DATA), ends.cache)).exists()


@ensure
async def test_a_refusal_for_good_is_told_at_once(ends: Ends) -> None:
    ends.door.refusals = [Forbidden("not yours", whose="ada")]
    with pytest.raises(Forbidden, match="not yours") as caught:
        await ends.dial().download(NAME, len(DATA), ends.cache)
    assert caught.value.details == {"whose": "ada"}
    assert len(ends.door.requests) == 1


# Uploads.


@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=len)
@ensure
async def test_a_file_is_brought_to_the_manager(ends: Ends, data: bytes) -> None:
    name = hashlib.sha256(data).hexdigest()
    await ends.dial().upload(ends.file(data), name)
    assert ends.blobs.path(name).read_bytes() == data


@ensure
async def test_a_file_that_the_manager_has_is_not_sent(ends: Ends) -> None:
    await ends.provide()
    await ends.dial().upload(ends.file(), NAME)
    assert [method for method, _, _ in ends.door.requests] == ["HEAD"]


@ensure
async def test_an_upload_goes_on_with_what_the_manager_has(ends: Ends) -> None:
    leave(ends.blobs, DATA[:5000])
    await ends.dial().upload(ends.file(), NAME)
    assert ends.door.requests[-1] == ("PUT", f"/v1/blobs/{NAME}", "5000")
    assert ends.blobs.path(NAME).read_bytes() == DATA


@ensure
async def test_a_damaged_beginning_at_the_manager_is_sent_again(ends: Ends) -> None:
    leave(ends.blobs, bytes(5000))
    await ends.dial().upload(ends.file(), NAME)
    assert [each[2] for each in ends.door.requests if each[0] == "PUT"] == ["5000", "0"]
    assert ends.blobs.path(NAME).read_bytes() == DATA


@ensure
async def test_a_file_with_other_bytes_than_its_digest_is_refused(ends: Ends) -> None:
    with pytest.raises(Invalid):
        await ends.dial().upload(ends.file(b"x" * len(DATA)), NAME)
    assert ends.blobs.held(NAME) == 0
    assert len(ends.door.requests) == 2


@ensure
async def test_an_upload_goes_on_when_the_link_broke(ends: Ends) -> None:
    # What comes back is a few hundred bytes; the handshake is the most of it.
    weak = ends.door.weak_link(0, 500, 1500)
    await ends.dial(weak).upload(ends.file(), NAME)
    assert ends.blobs.path(NAME).read_bytes() == DATA


@ensure
async def test_an_upload_waits_for_another_writer_of_the_same_blob(ends: Ends) -> None:
    other = ends.blobs.write(NAME, len(DATA))
    waiting = ends.dial().upload(ends.file(), NAME)
    await a_moment(0.3)
    other.write(DATA)
    await other.finish()
    await waiting
    assert {method for method, _, _ in ends.door.requests} == {"HEAD", "PUT"}


@ensure
async def test_more_than_the_manager_takes_is_refused_before_it_is_sent(ends: Ends) -> None:
    path = ends.directory / "large"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(TooLarge, match="limit"):
        await ends.dial().upload(path, NAME)


@pytest.mark.needs_root
@ensure
async def test_a_full_disk_of_the_manager_is_waited_for(ends: Ends) -> None:
    with tiny_disk(ends.directory / "disk", 4 << 20) as disk:
        store = FileBlobStore(disk / "blobs", LIMIT, the_reactor())
        ends.door.blobs = store
        filler = fill(disk, leave=500_000)
        # It says that it has the room.
        store._check_room = lambda sha256, size: None  # type: ignore[method-assign]
        sent = ends.dial().upload(ends.file(), NAME)
        while not 0 < store.held(NAME) < len(DATA):
            await deferLater(the_reactor(), 0.02)
        await deferLater(the_reactor(), 0.3)
        assert not sent.called
        # What has arrived is not sent again.
        filler.unlink()
        await sent
        with store.open(NAME) as file:
            assert file.read() == DATA


@ensure
async def test_a_file_that_is_not_there_cannot_be_sent(ends: Ends) -> None:
    with pytest.raises(Invalid):
        await ends.dial().upload(ends.directory / "nothing", NAME)


# Logs.


@ensure
async def test_a_log_is_appended_to(ends: Ends) -> None:
    transfer = ends.dial()
    assert await transfer.append_log(7, 1, "slave[0]", 0, b"one ") == 4
    assert await transfer.append_log(7, 1, "slave[0]", 4, b"two") == 7
    assert await transfer.append_log(7, 1, "slave[0]", 0, b"one two") == 7
    assert ends.door.logs.read(7, 1, "slave[0]", 0, 99) == b"one two"


@ensure
async def test_a_gap_in_a_log_is_told_with_the_length_that_is_there(ends: Ends) -> None:
    transfer = ends.dial()
    await transfer.append_log(7, 1, "master", 0, b"one")
    with pytest.raises(Conflict) as caught:
        await transfer.append_log(7, 1, "master", 9, b"two")
    assert caught.value.details["length"] == 3


@ensure
async def test_a_log_is_not_tried_again_by_the_transfer(ends: Ends) -> None:
    transfer = ends.dial()
    await ends.door.close()
    with pytest.raises(VolunteerLost):
        await transfer.append_log(7, 1, "master", 0, b"one")


@ensure
async def test_a_log_of_no_machine_is_refused(ends: Ends) -> None:
    with pytest.raises(Invalid):
        await ends.dial().append_log(7, 1, "../master", 0, b"one")
    assert ends.door.requests == []


# Connections.


@ensure
async def test_a_connection_is_kept_and_used_again(ends: Ends) -> None:
    await ends.provide()
    transfer = ends.dial()
    for n in range(20):
        await transfer.append_log(7, 1, "master", n, b"x")
    await transfer.download(NAME, len(DATA), ends.cache)
    await transfer.upload(ends.file(b"other"), hashlib.sha256(b"other").hexdigest())
    assert ends.door.connections == 1


@ensure
async def test_a_kept_connection_that_the_manager_closed_is_not_used(ends: Ends) -> None:
    transfer = ends.dial()
    await transfer.append_log(7, 1, "master", 0, b"one ")
    for reader in the_reactor().getReaders():
        if getattr(reader, "server", None) in ends.door.ports:
            reader.loseConnection()
    await a_moment(0.1)
    assert await transfer.append_log(7, 1, "master", 4, b"two") == 7


def test_connections_are_kept_for_a_shorter_time_than_the_manager_keeps_them() -> None:
    from twisted.web.server import Site

    assert Site.timeOut is not None
    assert Site.timeOut > IDLE


@ensure
async def test_a_connection_is_of_modern_tls(ends: Ends) -> None:
    tls = ends.dial()._door._tls
    assert tls.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.check_hostname
    assert tls.verify_mode == ssl.CERT_REQUIRED


# The end.


@ensure
async def test_closing_breaks_off_what_hangs(ends: Ends) -> None:
    await ends.provide()
    hangs_in_handshake = ends.dial(ends.door.listen(Silent()))
    hangs_in_pause = ends.dial(clock=Clock())
    ends.door.refusals = [Unavailable("starting")]
    waiting: list[Deferred[Any]] = [
        hangs_in_handshake.append_log(7, 1, "master", 0, b"x"),
        hangs_in_handshake.download(NAME, len(DATA), ends.cache),
        hangs_in_pause.upload(ends.file(), NAME),
    ]
    await a_moment(0.3)
    assert [each.called for each in waiting] == [False, False, False]
    await hangs_in_handshake.close()
    await hangs_in_pause.close()
    for each in waiting:
        with pytest.raises(Unavailable, match="broken off"):
            await each


@ensure
async def test_closing_breaks_off_a_connection_that_is_being_made(ends: Ends) -> None:
    # 192.0.2.0/24 is for documentation: nobody answers, if there is a route at all.
    transfer = HttpsTransfer(
        the_reactor(), "192.0.2.1", 9, ends.authority.ca_file, str, the_reactor()
    )
    waiting = transfer.download(NAME, len(DATA), ends.cache)
    await a_moment(0.1)
    begun = the_reactor().seconds()
    await transfer.close()
    assert the_reactor().seconds() - begun < 3
    with pytest.raises(Unavailable):
        await waiting


@ensure
async def test_a_closed_transfer_takes_nothing_more(ends: Ends) -> None:
    await put(ends.cache, DATA)
    transfer = ends.dial()
    await transfer.close()
    await transfer.close()
    with pytest.raises(Unavailable):
        await transfer.append_log(7, 1, "master", 0, b"x")
    with pytest.raises(Unavailable):
        await transfer.upload(ends.file(), NAME)
