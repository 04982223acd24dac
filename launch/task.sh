#!/usr/bin/env bash
# Runs a command as one of several tasks whose statuses become one, the highest:
#
#   srun launch/task.sh python train.py --distributed ...
#
# A mistake (1, 2) ends as 254. The tasks that are killed because of it end with 137 or
# the like, which would hide it: then the job would be started again, for nothing.
set -uo pipefail
set -m  # else bash has the command ignore Ctrl-C

child=
for name in TERM USR1 INT; do
  trap "kill -s $name \"\$child\" 2>/dev/null" "$name"
done
trap 'kill -s TERM "$child" 2>/dev/null' HUP

"$@" &
child=$!
while kill -0 "$child" 2>/dev/null; do  # a signal ends `wait`, not the command
  wait "$child"
  kill -0 "$child" 2>/dev/null && sleep 1  # it is stopped, not ended
done
wait "$child"  # it is told again how the command has ended
status=$?
((status == 1 || status == 2)) && status=254
exit "$status"
