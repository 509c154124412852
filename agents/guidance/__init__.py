"""Who sees which scaffold, which rollouts are learnt from, and the experts that are imitated.

Importing this package imports nothing heavy; name the module.
"""
