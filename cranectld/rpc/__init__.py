"""gRPC services and the local door; conversion between wire and core."""
