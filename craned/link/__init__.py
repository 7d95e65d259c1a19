"""The session with the controller and the local door."""
