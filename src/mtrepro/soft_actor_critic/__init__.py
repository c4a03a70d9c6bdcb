"""What the methods of the soft actor-critic family share: their settings and the agent that learns.

A method's file builds the networks; `agent.py` acts, stores and updates; `settings.py` is read without torch.
"""
