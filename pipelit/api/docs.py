"""The page that shows the API, with every file of it served from here: it works without the internet."""

from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, redirect, send_from_directory
from werkzeug.wrappers import Response as AnyResponse

from pipelit.api.auth import open_route

ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Pipelit API</title>
  <link rel="icon" href="/api/docs/assets/favicon-32x32.png">
  <link rel="stylesheet" href="/api/docs/assets/swagger-ui.css">
</head>
<body>
  <div id="api"></div>
  <script src="/api/docs/assets/swagger-ui-bundle.js"></script>
  <script src="/api/docs/start.js"></script>
</body>
</html>
"""
START = """\
SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  persistAuthorization: false,
  docExpansion: "none",
  validatorUrl: null,
});
"""

blueprint = Blueprint("docs", __name__)


@blueprint.get("/")
@open_route
def home() -> AnyResponse:
    """Whoever opens the address of a fresh installation is led to something they can read."""
    return redirect("/api/docs")


@blueprint.get("/api/docs/")
@open_route
def page() -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})


@blueprint.get("/api/docs/start.js")
@open_route
def start() -> Response:
    """In a file of its own, because the policy allows no script inside the page."""
    return Response(START, content_type="text/javascript; charset=utf-8", headers={"Cache-Control": "no-cache"})


@blueprint.get("/api/docs/assets/<path:name>")
@open_route
def asset(name: str) -> Response:
    """A file of Swagger UI, kept by browsers for a day."""
    return send_from_directory(ASSETS, name, max_age=86_400)
