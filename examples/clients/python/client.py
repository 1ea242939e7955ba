"""Hurts one machine of the job, and says how it went."""

import syndicate.client as sc


def main() -> None:
    """Kill, look, revive, look, finish."""
    with sc.connect() as c:
        victim = c.slaves[-1] if c.slaves else c.master
        print(f"I am {c.me}; I hurt {victim} at {victim.ip}")
        with c.timed("kill"):
            fault = c.kill(victim)
        print(f"{fault.id}: {victim} is dead since {fault.applied_at}")
        was_down = not is_up(c, victim)
        with c.timed("revive"):
            c.revive(victim, with_disk=False)
        is_back = is_up(c, victim)
        print("it runs again" if is_back else "it does not run")
        c.finish(passed=was_down and is_back, notes="killed and revived one machine")


def is_up(c: sc.Client, machine: sc.Machine) -> bool:
    """Whether Syndicate says that a machine runs."""
    return any(told["up"] for told in c.job["machines"] if told["name"] == machine)


if __name__ == "__main__":
    main()
