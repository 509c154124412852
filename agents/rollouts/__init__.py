"""Episodes of a model in environments: what it is shown, what it samples, what is recorded.

Importing this package imports nothing heavy; name the module.
"""
