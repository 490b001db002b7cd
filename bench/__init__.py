"""Measures Pipelit against bare Celery and plain Flask, in one run on one broker; `make bench` prints the table."""
