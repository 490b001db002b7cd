"""Pipelit: draw a workflow, run it on real traffic, watch it live."""
