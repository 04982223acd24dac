#!/usr/bin/env bash
# Runs a command again for as long as starting it again can help:
#
#   launch/restart.sh python train.py --config=... --workdir=...
#
# A run that was asked to stop and has saved ends with 75; one whose peer has died, or
# that was killed, with 128 or more. A finished run ends with 0, a mistake with 1 or 2,
# Ctrl-C with 130: those are final.
#
# MAX_RESTARTS (default 100) limits the restarts, RESTART_DELAY (default 10) is the
# pause before each in seconds. SIGTERM and SIGUSR1 are passed on to the command, after
# which there is no restart: the machine is about to go.
set -uo pipefail

restarts=0
asked_to_stop=
child=

pass_on() {
  asked_to_stop=1
  [[ -n $child ]] && kill -s "$1" "$child" 2>/dev/null
}
trap 'pass_on TERM' TERM
trap 'pass_on USR1' USR1

while true; do
  "$@" &
  child=$!
  wait "$child"
  status=$?
  while kill -0 "$child" 2>/dev/null; do  # a signal has ended `wait`, not the command
    wait "$child"
    status=$?
  done
  if [[ -n $asked_to_stop || $status -eq 130 ]] || ((status != 75 && status < 128)); then
    exit "$status"
  fi
  if ((restarts >= ${MAX_RESTARTS:-100})); then
    echo "restart.sh: gave up after $restarts restarts, the last status was $status" >&2
    exit "$status"
  fi
  restarts=$((restarts + 1))
  echo "restart.sh: status $status, restart $restarts" >&2
  sleep "${RESTART_DELAY:-10}"
done
