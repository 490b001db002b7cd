"""The subcommands of `pipelit`, a module for each group of them that needs the same things."""
