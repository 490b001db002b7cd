"""Everything between a command line and a running product: the environment, the embedded server, the supervisor."""
