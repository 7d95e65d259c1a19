#!/bin/sh
#CRANE --job-name=overrun --gres=gpu:a100:2 --time=0:06 --output=overrun.txt
# Holds both GPUs and never ends by itself: the time limit has to end it.
trap 'echo "told to end"; exit 0' TERM
echo "holding GPUs $CUDA_VISIBLE_DEVICES"
while :; do
    sleep 1 &
    wait $!
done
