#!/usr/bin/env bash
# A real Slurm cluster of one node on this Debian machine, its partition called gpu, with eight cores and eight GPUs that
# are only pretended (the GPUs are links to /dev/null) but asked for, counted and handed out like any other: most of a small job is
# waiting, so eight of them share two cores well. Run as root; stop-slurm.sh ends it. Does nothing where a cluster answers
# already.
set -euo pipefail

if ! command -v slurmctld >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null
fi
if sinfo --noheader >/dev/null 2>&1; then
    sinfo
    exit 0
fi
if [ -e /etc/slurm/slurm.conf ] && ! grep -q "^ClusterName=mtrepro-test$" /etc/slurm/slurm.conf; then
    echo "/etc/slurm/slurm.conf: belongs to another cluster, which does not answer; it is left as it is" >&2
    exit 1
fi

state=/var/spool/mtrepro-slurm-test # no job outlives its cluster
rm -rf "$state"
mkdir -p /etc/slurm "$state/slurmd" "$state/slurmctld" /var/log/slurm /run/munge /var/lib/munge /var/log/munge
[ -f /etc/munge/munge.key ] || mungekey --create
chown -R munge:munge /run/munge /var/lib/munge /var/log/munge /etc/munge
pgrep -x munged >/dev/null || su -s /bin/sh munge -c /usr/sbin/munged

host=$(hostname -s)
for i in {0..7}; do ln -s /dev/null "$state/gpu$i"; done
memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.85) }' /proc/meminfo)
# cred_expire: a requeued job waits for that long before it starts again, two minutes by default.
# config_overrides: the node is believed to have the cores that are written here.
cat >/etc/slurm/slurm.conf <<CONFIGURATION
ClusterName=mtrepro-test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
StateSaveLocation=$state/slurmctld
SlurmdParameters=config_overrides
SlurmdSpoolDir=$state/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1
MpiDefault=none
ReturnToService=2
KillWait=10
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=$memory Gres=gpu:8 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PreemptMode=REQUEUE
CONFIGURATION
echo "Name=gpu File=$state/gpu[0-7]" >/etc/slurm/gres.conf

slurmctld || { tail -n 5 /var/log/slurm/slurmctld.log >&2; exit 1; }
slurmd || { tail -n 5 /var/log/slurm/slurmd.log >&2; exit 1; }
for _ in $(seq 60); do
    if [ "$(sinfo --noheader --format %t 2>/dev/null)" = idle ]; then
        sinfo
        exit 0
    fi
    sleep 0.5
done
echo 'Slurm did not come up within half a minute:' >&2
tail -n 20 /var/log/slurm/slurmctld.log /var/log/slurm/slurmd.log >&2
exit 1
