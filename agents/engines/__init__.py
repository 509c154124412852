"""What samples: the `Engine` protocol, vLLM and Transformers in this process, and a scripted one for tests.

Importing this package imports nothing heavy; name the module, such as `maskgym.agents.engines.vllm_engine`.
"""
