"""Which ports a volunteer keeps jobs from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from syndicate.config.volunteer import load_volunteer
from syndicate.domain.errors import Invalid
from syndicate.network import doors
from syndicate.network.interface import Doors
from syndicate.network.rules import Ours
from syndicate.plugins.own_ports import OwnPorts, addresses_of
from tests.support.sandboxes import the_reactor

NEEDED = '[volunteer]\nmanager = "m"\nauthority = "/a"\njoin_token_file = "/j"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "volunteer.toml"
    path.write_text(NEEDED + text)
    return path


def test_places_are_addresses_with_ports(tmp_path: Path) -> None:
    text = '[network]\nports = [22]\nclosed = ["192.0.2.1:80", "[2001:db8::1]:443"]\n'
    network = load_volunteer(written(tmp_path, text)).network
    assert network.ports == (22,)
    assert network.closed == (("192.0.2.1", 80), ("2001:db8::1", 443))
    assert network.open == ()


@pytest.mark.parametrize(
    "text",
    [
        '[network]\nclosed = ["localhost:80"]\n',
        '[network]\nclosed = ["192.0.2.1"]\n',
        '[network]\nopen = ["192.0.2.1:99999"]\n',
        '[network]\nopen = "192.0.2.1:80"\n',
        "[network]\nports = [70000]\n",
        "[network]\nports = 22\n",
        'address = "node7.example"\n',
        'address = "192.0.2"\n',
    ],
)
def test_what_is_no_address_or_port_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    key = text.split(" =")[0].split("\n")[-1]
    with pytest.raises(Invalid, match=key):
        load_volunteer(written(tmp_path, text))


@pytest_twisted.ensureDeferred
async def test_the_managers_addresses_are_those_of_now_or_the_last_known() -> None:
    answers: list[Any] = [{"192.0.2.1"}, OSError("no name service"), {"192.0.2.2", "2001:db8::2"}]

    def resolve(host: str) -> set[str]:
        assert host == "manager"
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        found: set[str] = answer
        return found

    ports = OwnPorts(the_reactor(), "manager", (1, 2), open=(("::1", 3),), resolve=resolve)
    first, second, third = await ports(), await ports(), await ports()
    assert first == second
    assert first.closed == (("192.0.2.1", 1), ("192.0.2.1", 2))
    assert (first.own, first.open) == ((1, 2), (("::1", 3),))
    assert {address for address, _ in third.closed} == {"192.0.2.2", "2001:db8::2"}


def test_an_address_is_its_own() -> None:
    assert addresses_of("127.0.0.1") == {"127.0.0.1"}
    assert addresses_of("::1") == {"::1"}


def test_what_was_closed_before_is_forgotten() -> None:
    text = doors.change("t", Doors(closed=(("192.0.2.1", 1), ("::1", 2)), own=(9, 9, 8)))
    assert text.splitlines() == [
        "flush set inet t closed4",
        "add element inet t closed4 { 192.0.2.1 . 1 }",
        "flush set inet t closed6",
        "add element inet t closed6 { ::1 . 2 }",
        "flush set inet t open4",
        "flush set inet t open6",
        "flush set inet t own",
        "add element inet t own { 8, 9 }",
        "flush set inet t everywhere",
    ]


def test_the_table_is_the_daemons_and_goes_with_it() -> None:
    group = Path("/sys/fs/cgroup/unified/syndicate-x")
    for refusal in doors.REFUSALS:
        text = doors.table("t", Ours(group, 1), refusal)
        assert "flags owner" in text
        assert text.count(refusal) == 4
