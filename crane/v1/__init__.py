"""Generated wire contract (`proto/crane/v1`); `make proto` makes it."""
