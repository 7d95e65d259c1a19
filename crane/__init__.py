"""Public Python package of the scheduler: vocabulary, configuration, identity and client.

Importing it costs nothing; users import the submodule they need (`from crane.client import Client`).
"""

__version__ = "0.1.0"
