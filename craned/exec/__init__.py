"""Runs steps: launcher, shim, cgroups, standard streams, environment."""
