"""Benchmarks: each module prints the numbers of one part of maskgym beside those of others."""
