"""A server for programs that speak the OpenAI or the Ollama protocol over HTTP, and a page.

In: settings. Out: an ASGI application, and a process that serves it. Needs the extra ``serve``.
What models do with a request is not known here.
"""

from edge_et.serve.app import create_app
from edge_et.serve.process import serve
from edge_et.serve.settings import ServeSettings

__all__ = ["ServeSettings", "create_app", "serve"]
