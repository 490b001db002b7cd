"""The scheduler as pure functions: standard library only, no IO, no clock, no randomness."""
