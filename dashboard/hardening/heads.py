"""Having Streamlit's server bound the heads of requests, also where no steering process shares its port."""

import functools
from typing import Any

from streamlit.web.server.starlette import starlette_server

from gateway.bounded_head import BoundedHead

__all__ = ["bound_heads"]


def bound_heads() -> None:
    """Have the server use connections that are `BoundedHead`. Safe to call twice."""
    options = starlette_server._get_uvicorn_config_kwargs
    if hasattr(options, "__wrapped__"):
        return

    @functools.wraps(options)
    def bounded() -> dict[str, Any]:
        return {**options(), "http": BoundedHead}

    starlette_server._get_uvicorn_config_kwargs = bounded
