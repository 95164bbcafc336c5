#!/usr/bin/env bash
# Starts a real Slurm of several virtual nodes on this host: everything listens on 127.0.0.1 only, as
# root, without systemd, cgroups or accounting. Idempotent. Prints a line that sets SLURM_CONF.
# Needs Debian's packages munge, slurmctld, slurmd and slurm-client.
# SLURM_ONE: the folder for its state; NODES, CPUS: the nodes, and the CPUs that each declares;
# BASE_PORT: the first of NODES + 1 ports; MINJOBAGE: seconds until it forgets a job; EXTRA: more
# lines of slurm.conf, of which the last of one name counts.
set -euo pipefail
D=${SLURM_ONE:?the folder for the state of Slurm}
NODES=${NODES:-3} CPUS=${CPUS:-2} BASE=${BASE_PORT:-17100} MINJOBAGE=${MINJOBAGE:-300}
host=$(hostname -s)
getent ahostsv4 "$host" | grep -q '^127\.' || {
  echo "the host name $host does not resolve to 127.*: add '127.0.0.1 $host' to /etc/hosts" >&2
  exit 1
}
mkdir -p "$D"/{pid,log,state,spool}
chmod 755 "$D"
alive() {
  [ -s "$D/pid/$1" ] && kill -0 "$(cat "$D/pid/$1")" 2> /dev/null \
    && grep -qz "$2" "/proc/$(cat "$D/pid/$1")/cmdline"
}
# All daemons run in the foreground, so that the process id is theirs.
spawn() {
  local name=$1
  shift
  setsid "$@" >> "$D/log/$name.out" 2>&1 < /dev/null &
  echo $! > "$D/pid/$name"
}
[ -s "$D/munge.key" ] || (umask 077; head -c 128 /dev/urandom > "$D/munge.key")
memory=$(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
cat > "$D/slurm.conf" << CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$BASE
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$D/munge.socket,cred_expire=10
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/slurmctld.pid
SlurmdPidFile=$D/slurmd.%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=64
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=5
SlurmctldTimeout=10
MessageTimeout=3
InactiveLimit=0
KillWait=3
MinJobAge=$MINJOBAGE
MpiDefault=none
SwitchType=switch/none
NodeName=n[1-$NODES] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((BASE + 1))-$((BASE + NODES))] CPUs=$CPUS RealMemory=$((memory / NODES / 2)) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
${EXTRA:-}
CONF
export SLURM_CONF=$D/slurm.conf
alive munged munged || {
  rm -f "$D/munge.socket"*
  spawn munged /usr/sbin/munged -F -S "$D/munge.socket" --key-file="$D/munge.key" \
    --pid-file="$D/munged.pid" --seed-file="$D/munge.seed" --log-file="$D/log/munged.log" --num-threads=2
  for _ in $(seq 100); do [ -S "$D/munge.socket" ] && break; sleep 0.05; done
}
alive slurmctld slurmctld || spawn slurmctld /usr/sbin/slurmctld -D -f "$D/slurm.conf"
for i in $(seq "$NODES"); do
  alive "slurmd.n$i" slurmd || {
    mkdir -p "$D/spool/n$i"
    spawn "slurmd.n$i" /usr/sbin/slurmd -D -N "n$i" -f "$D/slurm.conf"
  }
done
for _ in $(seq 100); do scontrol ping > /dev/null 2>&1 && break; sleep 0.1; done
# After a test of a crash.
for node in $(sinfo -h -N -t drain,down -o %N 2> /dev/null | sort -u); do
  scontrol update NodeName="$node" State=RESUME 2> /dev/null || true
done
for _ in $(seq 200); do
  ready=$(sinfo -h -N -t idle,mix,alloc -o %N 2> /dev/null | sort -u | wc -l)
  [ "$ready" = "$NODES" ] && break
  sleep 0.1
done
[ "$ready" = "$NODES" ] || { sinfo -N -l || true; tail -5 "$D"/log/*; exit 1; }
echo "export SLURM_CONF=$D/slurm.conf"
