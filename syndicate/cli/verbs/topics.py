"""The verb ``help``: of a verb, or of a topic."""

from __future__ import annotations

import click

from syndicate.cli.grammar import Verb

JOB_FILE = """\
A job file says what a job is. The smallest has one line, source = "."; every key but that may be
left out, and options of submit and run go before it. `syndicate submit DIR` uses DIR/job.toml.

  schema   = 1                      # of this file; there is only 1
  name     = "wordcount"            # the directory's name, if not given
  source   = "src/"                 # directory or tarball, seen from this file
  machines = 3                      # one master, two slaves: master, slave[0], slave[1]
  outputs  = ["result.json", "traces/*.log"]   # kept when the job has ended; see fetch
  linger   = false                  # whether a machine goes on while daemons of make live
  clients  = 2                      # benchmark clients, which hurt it; 0 for none

  [resources]                       # what a volunteer must have to be one of the machines
  cores  = 2
  memory = "1G"
  arch   = ["x86_64"]

  [limits]                          # of each machine
  wall   = "10m"                    # over this, cpu, memory or output: the job is ended
  cpu    = "1h"                     # processor time, of all processes together
  cores  = 2                        # kept busy at once; it is slowed down
  memory = "512M"
  output = "50M"
  pids   = 512                      # over these, the program's own calls fail
  files  = 1024
  disk   = "2G"
  inodes = 100000                   # files and directories on it

  [env]                             # for make
  GOMAXPROCS = "2"

  [client]                          # its own benchmark client, in place of the site's
  source = "bench/"

The source has a Makefile at its top, with the targets master and slave. They are run as

  make master                       on one machine
  make MASTER=<address> slave       on each of the others

each in its own root made of the source, with the system's /usr below it, as a user of its own.
The job ends when all of them have ended; it has passed if each did so with exit code 0.
"""

TOPICS = {"jobfile": JOB_FILE}


@click.command("help", cls=Verb, examples=("syndicate help jobfile", "syndicate help lab up"))
@click.argument("words", nargs=-1)
@click.pass_context
def help_topic(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command, or the topic: jobfile."""
    if len(words) == 1 and words[0] in TOPICS:
        click.echo(TOPICS[words[0]].rstrip())
        return
    root = ctx.find_root()
    command, context = root.command, root
    for word in words:
        if not isinstance(command, click.Group):
            ctx.fail(f"There is no help on {' '.join(words)!r}.")
        name, found, _ = command.resolve_command(context, [word])
        assert found is not None
        context = click.Context(found, info_name=name, parent=context)
        command = found
    click.echo(command.get_help(context))
