"""The whole product, started as its users start it."""
