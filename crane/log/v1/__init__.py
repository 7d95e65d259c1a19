"""Generated log format, version 1 (`proto/crane/log/v1`); `make proto` makes it."""
