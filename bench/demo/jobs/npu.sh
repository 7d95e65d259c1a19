#!/bin/sh
#CRANE --job-name=npu --gres=npu:910b3:2 --time=1:00 --output=npu.txt
echo "on $CRANED_NODENAME: ASCEND_VISIBLE_DEVICES=$ASCEND_VISIBLE_DEVICES"
