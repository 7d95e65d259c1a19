"""The controller: queue, policy decisions, dispatch."""
