"""Jobs, fleets and histories for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from syndicate.domain.job import Job, JobSpec, Limits, Resources
from syndicate.domain.volunteer import Facts, Volunteer, VolunteerState

SHA = "0" * 64


def spec(machines: int = 1, **values: object) -> JobSpec:
    """A specification of so many machines."""
    return JobSpec("a job", SHA, 100, machines=machines, **values)  # type: ignore[arg-type]


def queued(number: int, machines: int = 1, **values: object) -> Job:
    """A job that waits."""
    return Job(number, spec(machines, **values), "ann", submitted_at=float(number))


def volunteer(name: str, cores: int = 2, memory: int = 1 << 30) -> Volunteer:
    """A volunteer that is free."""
    facts = Facts(f"10.0.0.{abs(hash(name)) % 250}", cores, memory, "x86_64", "6.1", "root")
    return Volunteer(name, facts, VolunteerState.FREE)


@st.composite
def jobs(draw: st.DrawFn, number: int, largest: int = 8) -> Job:
    """A job that waits, with a wall limit and perhaps needs."""
    return queued(
        number,
        draw(st.integers(1, largest)),
        limits=Limits(wall=float(draw(st.sampled_from((10, 60, 600, 3600))))),
        resources=Resources(cores=float(draw(st.sampled_from((0, 0, 0, 2, 8))))),
    )


@st.composite
def queues(draw: st.DrawFn) -> tuple[Job, ...]:
    """Some jobs that wait, in order."""
    return tuple(draw(jobs(number)) for number in range(1, draw(st.integers(0, 8)) + 1))


@st.composite
def fleets(draw: st.DrawFn, largest: int = 10) -> tuple[Volunteer, ...]:
    """Some volunteers, small and large."""
    sizes = draw(st.lists(st.sampled_from((1, 2, 8)), max_size=largest))
    return tuple(volunteer(f"v{index}", cores) for index, cores in enumerate(sizes))
