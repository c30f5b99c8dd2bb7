"""JSON-RPC 2.0 over WebSocket, with subscriptions, on nothing but the standard library (Python 3.9).

    connection = await Connection.open("ws://127.0.0.1:9653")
    print(await connection.call("system.info"))
    async for event in await connection.subscribe("events.subscribe", since=0):
        print(event["kind"], event["subject"])
"""

import asyncio
import base64
import hashlib
import itertools
import json
import os
import struct
from urllib.parse import urlsplit

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class RpcError(Exception):
    """The coordinator answered with an error."""

    def __init__(self, error):
        super().__init__(f"{error['message']} ({error['code']}): {error.get('data')}")
        self.code, self.data = error["code"], error.get("data")


class Connection:
    """One connection. Calls may be made at the same time; every one gets its own answer."""

    @classmethod
    async def open(cls, url):
        where = urlsplit(url)
        port = where.port or 80
        reader, writer = await asyncio.open_connection(where.hostname, port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {where.path or '/'} HTTP/1.1\r\nHost: {where.hostname}:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        proof = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        if " 101 " not in answer.split("\r\n")[0] or base64.b64encode(proof).decode() not in answer:
            writer.close()
            raise ConnectionError(f"{url} does not speak WebSocket: {answer.splitlines()[0]}")
        return cls(reader, writer)

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)
        self._answers = {}  # call id: future
        self._queues = {}  # subscription id: queue
        self._reading = asyncio.create_task(self._read())

    async def call(self, method, **params):
        """Calls a method and returns its result."""
        if self._reading.done():
            raise ConnectionError("the connection is closed")
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self._send(TEXT, json.dumps(request).encode())
        return await answer

    async def subscribe(self, method, **params):
        """Calls a method that subscribes, and returns what it pushes as an asynchronous iterator.

        It ends when the connection does. Read it: when a thousand items wait in it, nothing more
        is read from the socket, and the coordinator will close that as too slow.
        """
        return self._items(self._queue(await self.call(method, **params)))

    async def close(self):
        """Says goodbye and closes."""
        if not self._reading.done():
            self._send(CLOSE, struct.pack("!H", 1000))
            await asyncio.wait([self._reading], timeout=2)
        self._reading.cancel()
        self._writer.close()

    def _queue(self, subscription):
        # The first notification can arrive before the caller of `subscribe` runs on.
        return self._queues.setdefault(subscription, asyncio.Queue(maxsize=1000))

    async def _items(self, queue):
        while True:
            if queue.empty() and self._reading.done():
                return
            item = asyncio.ensure_future(queue.get())
            await asyncio.wait([item, self._reading], return_when=asyncio.FIRST_COMPLETED)
            if item.done():
                yield item.result()
            else:
                item.cancel()

    async def _read(self):
        try:
            while True:
                message = json.loads(await self._message())
                if "method" in message:
                    params = message["params"]
                    await self._queue(params["subscription"]).put(params["result"])
                    continue
                answer = self._answers.pop(message["id"], None)
                if answer is None or answer.done():
                    continue
                if "error" in message:
                    answer.set_exception(RpcError(message["error"]))
                else:
                    answer.set_result(message["result"])
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the end, as far as the iterators are concerned
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the connection was lost"))
            self._writer.close()

    async def _message(self):
        """The next whole text message; answers pings on the way."""
        text = b""
        while True:
            first, second = await self._reader.readexactly(2)
            kind, length = first & 0x0F, second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
            payload = await self._reader.readexactly(length)
            if kind == PING:
                self._send(PONG, payload)
            elif kind == CLOSE:
                raise ConnectionError("closed by the coordinator")
            elif kind != PONG:
                text += payload
                if first & 0x80:
                    return text

    def _send(self, kind, payload):
        # What a client sends is masked; see RFC 6455, section 5.
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | kind, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, size)
        mask = os.urandom(4)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
        self._writer.write(head + mask + masked)
