"""Bare evaluation: who plays, records that survive a kill, scores, intervals, tables and comparisons.

Importing this package imports nothing heavy; name the module, such as `maskgym.agents.evaluation.table`.
"""
