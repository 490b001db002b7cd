"""Runs executions: a pure core decides, and the modules around it keep, send and report what was decided."""
