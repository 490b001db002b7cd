"""Use cases: one function is one transaction and one sentence of the product."""
