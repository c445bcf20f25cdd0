"""Platforms that sell the same models in another form, on loopback: what they are sent is put back into the provider's own.

Source: anthropic SDK 2.14, lib/bedrock and lib/vertex; openai SDK 3.57, lib/azure; botocore 1.40, eventstream.py.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import anthropic
import httpx2
import openai

BEDROCK = re.compile(r"/model/(?P<model>[^/]+)/invoke(?P<stream>-with-response-stream)?$")
VERTEX = re.compile(
    r"/projects/p/locations/r/publishers/anthropic/models/(?P<model>[^/:]+):(?P<stream>streamR|r)awPredict$"
)
AZURE = re.compile(r"/openai/(?:deployments/[^/]+/)?(?P<path>chat/completions|responses)$")


def as_provider_has_it(request: httpx2.Request) -> httpx2.Request:
    """Return a platform's request in the form of whoever made the model."""
    path, body = request.url.path, json.loads(request.content)
    for form in (BEDROCK, VERTEX):
        if found := form.search(path):
            # The model and, on Bedrock, whether to stream are said by the path alone.
            assert "model" not in body
            body["model"] = unquote(found["model"])
            body["stream"] = body.get("stream", False) or found["stream"] not in (None, "r")
            path = "/v1/messages"
    if found := AZURE.search(path):
        path = f"/v1/{found['path']}"
    path = re.sub(r"^.*/v1/messages", "/v1/messages", path)
    headers = {name: value for name, value in request.headers.items() if name not in ("content-length", "host")}
    return httpx2.Request("POST", request.url.copy_with(path=path), headers=headers, json=body)


def as_frames(stream: bytes) -> bytes:
    """Return a stream of server-sent events as Amazon frames it."""
    events = re.findall(rb"^data: (.*)$", stream, re.MULTILINE)
    return b"".join(_frame(json.dumps({"bytes": base64.b64encode(event).decode()}).encode()) for event in events)


def _frame(payload: bytes) -> bytes:
    names = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in names.items()
    )
    prelude = struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return head + struct.pack(">I", zlib.crc32(head))


class Platform(httpx2.HTTPTransport):
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        response = super().handle_request(as_provider_has_it(request))
        if not request.url.path.endswith("-with-response-stream") or response.status_code != 200:
            return response
        return httpx2.Response(200, content=as_frames(response.read()))


class AsyncPlatform(httpx2.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        response = await super().handle_async_request(as_provider_has_it(request))
        if not request.url.path.endswith("-with-response-stream") or response.status_code != 200:
            return response
        return httpx2.Response(200, content=as_frames(await response.aread()))


def _bedrock(url: str, **more: Any) -> dict[str, Any]:
    return {"api_key": "any", "aws_region": "r", "base_url": url, **more}


def _vertex(url: str, **more: Any) -> dict[str, Any]:
    return {"access_token": "any", "region": "r", "project_id": "p", "base_url": url, **more}


def _foundry(url: str, **more: Any) -> dict[str, Any]:
    return {"api_key": "any", "base_url": url, **more}


def _azure(url: str, **more: Any) -> dict[str, Any]:
    return {"api_key": "any", "azure_endpoint": url, "api_version": "2025-01-01", **more}


_KINDS: dict[str, tuple[str, Callable[..., dict[str, Any]], Any, Any]] = {
    "bedrock": ("anthropic", _bedrock, anthropic.AnthropicBedrock, anthropic.AsyncAnthropicBedrock),
    "mantle": ("anthropic", _bedrock, anthropic.AnthropicBedrockMantle, anthropic.AsyncAnthropicBedrockMantle),
    "vertex": ("anthropic", _vertex, anthropic.AnthropicVertex, anthropic.AsyncAnthropicVertex),
    "foundry": ("anthropic", _foundry, anthropic.AnthropicFoundry, anthropic.AsyncAnthropicFoundry),
    "azure": ("openai", _azure, openai.AzureOpenAI, openai.AsyncAzureOpenAI),
    "azure responses": ("openai responses", _azure, openai.AzureOpenAI, openai.AsyncAzureOpenAI),
}
PLATFORMS = (*_KINDS, *[f"async {name}" for name in _KINDS])


def way_of(platform: str) -> str:
    """Return the way of `guarded.kit` that a platform's client goes."""
    is_async, name = platform.startswith("async "), platform.removeprefix("async ")
    return f"async {_KINDS[name][0]}" if is_async else _KINDS[name][0]


def make(platform: str, url: str) -> Any:
    """Return a platform's client that talks to a provider on loopback."""
    is_async, name = platform.startswith("async "), platform.removeprefix("async ")
    _, arguments, blocking, asynchronous = _KINDS[name]
    if is_async:
        return asynchronous(**arguments(url, http_client=httpx2.AsyncClient(transport=AsyncPlatform())))
    return blocking(**arguments(url, http_client=httpx2.Client(transport=Platform())))
