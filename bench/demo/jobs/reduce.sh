#!/bin/sh
#CRANE --job-name=reduce --time=1:00 --mem=200M --output=table.txt
# csub --dependency=afterok:ID jobs/reduce.sh DIRECTORY PARTS
exec python3 jobs/reduce.py "$@"
