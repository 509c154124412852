"""Looks for a secret in its own environment."""

import os

print(dict(os.environ))
