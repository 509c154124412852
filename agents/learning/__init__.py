"""Trajectories to weights: advantages, losses, packed batches and the optimiser steps.

Importing this package imports nothing heavy; name the module.
"""
