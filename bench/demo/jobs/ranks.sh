#!/bin/sh
#CRANE --job-name=ranks --nodes=2 --ntasks-per-node=2 --time=1:00 --output=ranks.txt
# The script runs once, on the first node; crun starts its tasks on all nodes of the job.
echo "script on $CRANED_NODENAME, nodes $CRANE_JOB_NODELIST"
crun --label sh -c \
    'echo "rank $CRANE_PROCID of $CRANE_NTASKS on $CRANED_NODENAME, local rank $SLURM_LOCALID"'
