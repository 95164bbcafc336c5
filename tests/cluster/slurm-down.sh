#!/usr/bin/env bash
# Stops what slurm-up.sh started, by its process ids, and removes its folder.
set -u
D=${SLURM_ONE:?the folder for the state of Slurm}
export SLURM_CONF=$D/slurm.conf
[ -d "$D/pid" ] || exit 0
ids=$(timeout 5 squeue -h -o %A 2> /dev/null | sort -u)
# shellcheck disable=SC2086
[ -z "$ids" ] || timeout 10 scancel --full $ids 2> /dev/null
for _ in $(seq 40); do
  [ -z "$(timeout 5 squeue -h -o %A 2> /dev/null)" ] && break
  sleep 0.1
done
stop() {
  local name file id
  for name in "$@"; do
    file=$D/pid/$name
    [ -s "$file" ] || continue
    id=$(cat "$file")
    # The id may be that of another process by now.
    grep -qz "${name%%.*}" "/proc/$id/cmdline" 2> /dev/null || continue
    kill "$id"
    for _ in $(seq 100); do kill -0 "$id" 2> /dev/null || break; sleep 0.05; done
    kill -0 "$id" 2> /dev/null && kill -9 "$id"
  done
}
# shellcheck disable=SC2046
stop $(cd "$D/pid" && ls | grep '^slurmd\.')
stop slurmctld munged
rm -rf "$D"
exit 0
