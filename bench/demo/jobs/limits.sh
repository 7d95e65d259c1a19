#!/bin/sh
#CRANE --job-name=limits --cpus-per-task=2 --mem=256M --time=1:00 --output=limits.txt
exec python3 jobs/limits.py
