"""The agent: chat rendering, engines, rollouts, guidance, losses, trainer, evaluation.

Importing this package imports nothing heavy; name the module you need, such as
`maskgym.agents.experiment`.
"""
