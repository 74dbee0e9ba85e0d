"""Who may use the page: this machine's browser, or whoever has the token."""

import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Nothing is asked of another machine, and no other page may show this one."""


class Guard:
    """Refuses requests of other pages, and those without the token where there is one.

    Without a token, the Host header has to be one of `hosts`: a page of another name that leads to
    this machine (DNS rebinding) has another one. The first request brings the token in the URL;
    a cookie takes its place. What changes anything has to come from our own page (Origin).
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str | None) -> None:
        """Takes names with ports, as `localhost:8000`."""
        self.app = app
        self.hosts = frozenset(map(_as_asked, hosts))
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further; None for others."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.token is None and _as_asked(host) not in self.hosts:
            return PlainTextResponse(f"{host[:80]!r} is no name of this page", 403)
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            own = origin in (None, f"http://{host}", f"https://{host}")
            if not own or headers.get("sec-fetch-site", "same-origin") != "same-origin":
                return PlainTextResponse("the request is of another page", 403)
        if self.token is None:
            return None
        # Cookies are those of a machine, whatever the port.
        cookie = f"tvqrap-{scope['server'][1]}"
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and given and self._is_token(given):
            # The address without the token: it is in no history and no screenshot.
            response = RedirectResponse("/", 303)
            response.set_cookie(cookie, self.token, httponly=True, samesite="lax")
            return response
        if self._is_token(cookie_parser(headers.get("cookie", "")).get(cookie, "")):
            return None
        return PlainTextResponse("open the address that tvqrap-cli ui has printed", 403)

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


def _as_asked(host: str) -> str:
    """A name with a port as browsers ask for it: they leave out port 80, which is that of HTTP."""
    return host.lower().removesuffix(":80")
