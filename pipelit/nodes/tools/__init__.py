"""Node types that reach outside or compute, as steps and as tools of agents."""
