"""What samples: the `Engine` protocol; vLLM or Transformers in this process, vLLM servers, a scripted one.

Importing this package imports nothing heavy; name the module, such as `maskgym.agents.engines.vllm_engine`.
"""
