"""Identity: peer credentials, the cluster key, tokens, signed streams."""
