#!/bin/sh
# Kills the last slave and revives it on an emptied disk.
#
#   client.sh MASTER [SLAVE,SLAVE...]
set -eu

slaves=${2:-}
victim=${slaves##*,}
victim=${victim:-$1}

# What goes wrong on the way is told as the result: this client would count as failed anyway, but
# nobody would know why.
trap '[ $? = 0 ] || syndicate-fault finish --failed --notes "client.sh gave up"' EXIT

syndicate-fault mark "kill $victim"
syndicate-fault kill "$victim"
syndicate-fault revive --no-disk "$victim"
syndicate-fault job
syndicate-fault finish --passed --notes "killed and revived $victim"
