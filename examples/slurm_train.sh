#!/bin/bash
# Train on several machines of a Slurm cluster, one process for each GPU:
#
#     sbatch --nodes 2 --gpus-per-node 4 examples/slurm_train.sh DATA RUN [OPTIONS OF cgd train]
#
# DATA and ./runs lie where every machine sees them. A job that is preempted or reaches its time
# limit is queued again and goes on from its last step, on as many machines as it then gets;
# options belong to a run's beginning and are left out when it goes on.
#SBATCH --job-name cgd-train
#SBATCH --ntasks-per-node 1
#SBATCH --cpus-per-task 32
#SBATCH --time 24:00:00
#SBATCH --requeue
#SBATCH --signal B:USR1@120
#SBATCH --open-mode append
set -u

if [ $# -lt 2 ]; then
    echo "usage: sbatch $0 DATA RUN [OPTIONS OF cgd train]" >&2
    exit 2
fi
data=$1 run=$2
shift 2

if [ -e "runs/$run/result.json" ]; then
    echo "runs/$run has finished" >&2
    exit 0
elif [ -e "runs/$run/resume.pt" ]; then
    begin=(--resume --name "$run")
else
    begin=("$data" --name "$run" "$@")
fi

# One torchrun a machine, and they find each other at the first one; it starts a process for each
# GPU, or without GPUs one for the whole machine.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
processes=${SLURM_GPUS_ON_NODE:-1}
threads=$((${SLURM_CPUS_PER_TASK:-1} / processes))
export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))

srun torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" \
    --nproc-per-node "$processes" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$first:${PORT:-29400}" \
    -m cgdcli train "${begin[@]}" &
step=$!

# Two minutes before the time limit Slurm says so to this script alone, which stops the step and
# asks to be queued again. A run that is told to stop is saved after the step that it is at.
trap 'kill -TERM $step; wait $step; scontrol requeue "$SLURM_JOB_ID"; exit 143' USR1
wait $step
