"""A client whose replies end: in time, however slowly they come, and before they fill the memory."""

import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx2
import openai

PACKED = {"gzip", "x-gzip", "deflate"}
OF_PACKING = {"content-encoding", "content-length", "transfer-encoding"}


class OversizedError(httpx2.TransportError):
    """A reply larger than what may be read."""


class Client(openai.DefaultHttpxClient):
    """Reads at most `largest` bytes of a reply, unpacked, and gives its body no longer than the read timeout
    of the request, which else holds for each piece alone.
    """

    def __init__(self, largest: int, **options: Any) -> None:
        super().__init__(**options)
        self._largest = largest

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        response = super().send(request, stream=True, **options)
        if stream:
            return response
        seconds = request.extensions.get("timeout", {}).get("read")
        try:
            body = b"".join(self._pieces(response, seconds))
        finally:
            response.close()
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in OF_PACKING]
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)

    def _pieces(self, response: httpx2.Response, seconds: float | None) -> Iterator[bytes]:
        ends = None if seconds is None else time.monotonic() + seconds
        is_packed = response.headers.get("content-encoding", "").lower() in PACKED
        unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
        left = self._largest
        for piece in response.iter_raw() if is_packed else response.iter_bytes():
            told = unpacking.decompress(piece, left + 1) if is_packed else piece
            left -= len(told)
            if left < 0:
                raise OversizedError("the reply is too large", request=response.request)
            if ends is not None and time.monotonic() > ends:
                raise httpx2.ReadTimeout("the reply came too slowly", request=response.request)
            yield told
