#!/usr/bin/env bash
# End the cluster that start-slurm.sh started, its jobs included, and no other process.
set -euo pipefail
if ! grep -q '^ClusterName=mtrepro-test$' /etc/slurm/slurm.conf 2>/dev/null; then
    echo '/etc/slurm/slurm.conf: not the cluster of start-slurm.sh; it is left as it is' >&2
    exit 1
fi
scancel --quiet --state=PENDING --state=RUNNING --user=root 2>/dev/null || true
scontrol shutdown 2>/dev/null || true
sleep 1
for file in /run/slurmd.pid /run/slurmctld.pid; do
    # Some are gone by now, which is what was asked for.
    if [ -f "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
done
