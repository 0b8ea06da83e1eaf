"""The outermost layer of every request: all wrappers, then the route."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.wrappers import wrap
from app.metrics import AppMetrics
from pawl.settings import Settings


class Edge:
    """The app's whole `middleware_stack`, in place of the framework's: `wrappers` around all routes.

    The endpoints of the `direct` routes are called from here, past the framework's routing and exit stacks: these cost
    more than all that a prediction needs besides its encoder (`docs/log.md`). Such a route takes no parameters, and
    stays in the router, which describes it and answers other methods of its path.
    """

    def __init__(self, router: ASGIApp, direct: Sequence[APIRoute], settings: Settings, metrics: AppMetrics) -> None:
        self._router = router
        self._routed = AsyncExitStackMiddleware(router)  # the framework's endpoints ask for it
        self._direct = {(method, route.path): route for route in direct for method in route.methods or ()}
        self._wrapped = wrap(self._answer, settings, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; the lifespan goes to the router."""
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        # Exact paths only, without what a router does for parameters, slashes at the end or HEAD.
        route = self._direct.get((scope["method"], scope["path"]))
        if route is not None:
            scope["route"] = route  # known before the wrappers, so that a refusal too is counted under its name
        await self._wrapped(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What all wrappers are around: the direct way, or the framework's."""
        route = scope.get("route")
        if route is None:
            await self._routed(scope, receive, send)
            return
        response = await route.endpoint(Request(scope, receive))
        await response(scope, receive, send)
