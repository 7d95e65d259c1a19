"""Generated log format (`proto/crane/log`)."""
