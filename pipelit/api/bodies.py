"""Bodies of any kind, as JSON that a workflow can work with."""

import base64
from collections.abc import Mapping

from flask import Flask, Request, request
from werkzeug.datastructures import FileStorage, MultiDict

from pipelit.api.parser import parse_json
from pipelit.errors import Invalid, TooLarge, UnsupportedEncoding
from pipelit.nodes.ports import Json
from pipelit.services import sizes


def register(app: Flask) -> None:
    """Refuse bodies that are compressed, and those that are cut off at the limit."""
    app.before_request(refuse_encoded)
    app.before_request(refuse_cut)


def refuse_encoded() -> None:
    """A few compressed bytes may be a gigabyte, and those who sign a body sign other bytes than we would read."""
    codings = {coding.strip().lower() for coding in request.headers.get("Content-Encoding", "").split(",")}
    if not codings <= {"", "identity"}:
        raise UnsupportedEncoding("Send the body as it is, without Content-Encoding.")


def refuse_cut() -> None:
    """A body in chunks tells no length beforehand; that something is left behind the limit says that it is too long."""
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        request.get_data(cache=True, parse_form_data=False)
        if request.environ["wsgi.input"].read(1):
            raise TooLarge("The body is longer than this server accepts.")


def parse(request: Request) -> Json:
    """JSON as it is, a form as an object, text as text, anything else as base64 with its type; nothing as None."""
    raw = request.get_data(cache=True)
    kind = request.mimetype
    if not raw:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        return _reasonable(parse_json(raw), len(raw))
    if kind == "application/x-www-form-urlencoded":
        return values(request.form)
    if kind == "multipart/form-data":
        return {**values(request.form), **_files(request.files)}
    if kind.startswith("text/") or kind in ("application/xml", "application/x-ndjson"):
        return _text(raw, request.mimetype_params.get("charset", "utf-8"))
    return _binary(raw, kind)


def values(several: "MultiDict[str, str]") -> dict[str, Json]:
    """Names and values; a repeated name has a list of them."""
    return {name: found[0] if len(found) == 1 else list(found) for name, found in several.lists()}


def _reasonable(value: Json, size: int) -> Json:
    reason = sizes.objection(value, most_bytes=size * 6)
    if reason is not None:
        raise Invalid(f"The body is not acceptable: {reason}")
    return value


def _files(files: "MultiDict[str, FileStorage]") -> Mapping[str, Json]:
    described: dict[str, Json] = {}
    for name, found in files.lists():
        contents: list[Json] = [{"filename": each.filename, **_binary(each.read(), each.mimetype)} for each in found]
        described[name] = contents[0] if len(contents) == 1 else contents
    return described


def _text(raw: bytes, charset: str) -> str:
    try:
        return raw.decode(charset, "replace")
    except LookupError:
        return raw.decode("utf-8", "replace")


def _binary(raw: bytes, kind: str) -> dict[str, Json]:
    return {"base64": base64.b64encode(raw).decode("ascii"), "content_type": kind or "application/octet-stream"}
