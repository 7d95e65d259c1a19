#!/bin/sh
#CRANE --job-name=gpu --gres=gpu:a100:1 --time=1:00 --output=gpu.txt
echo "on $CRANED_NODENAME: CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES"
