"""Client of the controller: submit, query, cancel, wait, follow events."""
