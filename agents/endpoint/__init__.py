"""A model behind an OpenAI-compatible server as the player of an evaluation.

Importing this package imports nothing heavy; name the module, such as `maskgym.agents.endpoint.player`.
"""
