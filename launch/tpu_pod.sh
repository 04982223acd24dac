#!/usr/bin/env bash
# Trains on all hosts of a TPU slice:
#
#   TPU=my-slice ZONE=us-central2-b launch/tpu_pod.sh --config=configs/imagenet_sphere.py --workdir=/mnt/shared/imagenet
#
# Needs this repository with the extras [train,tpu] in ~/hypersphere of every host, and
# a folder for the run that all hosts see. JAX finds the hosts of a slice itself. When a
# host dies or is preempted, all processes start again and resume.
set -euo pipefail
: "${TPU:?name of the slice}" "${ZONE:?its zone}"

printf -v arguments '%q ' "$@"
gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="
  cd ~/hypersphere && launch/restart.sh .venv/bin/python train.py --distributed $arguments"
