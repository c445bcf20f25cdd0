"""Clients for real providers, and an offline one for the demo.

`anthropic.prepare` takes Anthropic's SDK as it is; `openai.OpenAIClient` gives OpenAI's the same shape. Each module
imports its SDK only when it is used.
"""
