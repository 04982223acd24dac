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
# pause before each in seconds. SIGTERM, SIGUSR1 and Ctrl-C are passed on to the command,
# SIGHUP as SIGTERM, after which there is no restart: the machine is about to go, or
# somebody wants it.
set -uo pipefail
set -m  # else bash has the command ignore Ctrl-C, and sends it there twice

restarts=0
asked_to_stop=
child=

pass_on() {
  asked_to_stop=$1
  [[ -n $child ]] && kill -s "$1" "$child" 2>/dev/null
}
for name in TERM USR1 INT; do
  trap "pass_on $name" "$name"
done
trap 'pass_on TERM' HUP  # the terminal has gone: the command must not be left alone

# Starts a command, passes signals on to it, and sets `status` to how it ended.
run() {
  [[ -n $asked_to_stop ]] && return
  "$@" &
  child=$!
  [[ -n $asked_to_stop ]] && pass_on "$asked_to_stop"  # it came just before `child=`
  while kill -0 "$child" 2>/dev/null; do  # a signal ends `wait`, not the command
    wait "$child"
    kill -0 "$child" 2>/dev/null && sleep 1  # it is stopped, not ended
  done
  wait "$child"  # it is told again how the command has ended
  status=$?
  child=
}

while true; do
  run "$@"
  if [[ -n $asked_to_stop ]] || ((status != 75 && status < 128 || status == 130)); then
    exit "$status"
  fi
  if ((restarts >= ${MAX_RESTARTS:-100})); then
    echo "restart.sh: gave up after $restarts restarts, the last status was $status" >&2
    exit "$status"
  fi
  restarts=$((restarts + 1))
  echo "restart.sh: status $status, restart $restarts" >&2
  last=$status
  run sleep "${RESTART_DELAY:-10}"
  status=$last  # what to end with if the pause was cut short
done
