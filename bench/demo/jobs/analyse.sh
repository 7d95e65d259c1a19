#!/bin/sh
#CRANE --job-name=analyse --array=0-7 --time=2:00 --mem=200M --output=parts/%a.log
# csub jobs/analyse.sh TRACE DIRECTORY
exec python3 jobs/analyse.py "$@"
