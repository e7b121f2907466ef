"""A small RTSP server (RFC 2326): pictures as RTP/JPEG (RFC 2435) over the same TCP connection; it misbehaves on order.

`server.mode`: normal · stall (the connection stays, nothing comes any more) · reset (the connection is torn) · rubbish (bytes
that are no RTP) · broken (RTP whose JPEG is noise). It holds from the next frame on, for every client.
"""

import base64
import os
import re
import socket
import socketserver
import struct
import threading

import cv2

PAYLOAD_BYTES = 1400


def jpeg_parts(jpeg):
    """Quantisation tables and entropy-coded data of a baseline JPEG with the standard Huffman tables."""
    tables, at = {}, 2
    while True:
        assert jpeg[at] == 0xFF
        kind, length = jpeg[at + 1], struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        body = jpeg[at + 4 : at + 2 + length]
        at += 2 + length
        if kind == 0xDB:
            while body:
                tables[body[0] & 15], body = body[1:65], body[65:]
        if kind == 0xDA:
            return tables[0] + tables.get(1, tables[0]), jpeg[at : jpeg.rindex(b"\xff\xd9")]


class RtspServer:
    """Serves `picture(number)` (BGR, sides multiples of 16) at `fps`; `address` is where. Ends with `close`."""

    def __init__(self, picture, *, fps=25.0, port=0, user=None, password=None):
        self.picture, self.fps, self.user, self.password = picture, fps, user, password
        self.mode, self.sent, self.clients, self.refused = "normal", 0, 0, 0
        self.changed = threading.Condition()
        self.ended = threading.Event()
        self.open = set()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                outer.serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads = True, True

            def handle_error(self, request, client_address):
                pass  # a client that went away in the middle is an everyday thing here

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def address(self):
        login = f"{self.user}:{self.password}@" if self.user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/yard"

    def close(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.thread.join()

    def wait_clients(self, count, timeout_s=60.0):
        with self.changed:
            assert self.changed.wait_for(lambda: self.clients >= count, timeout_s), f"{self.clients} of {count} clients came"

    def serve(self, handler):
        self.open.add(handler.connection)
        playing = None
        try:
            while True:
                request = self.read_request(handler.rfile)
                if request is None:
                    return
                method, headers = request
                if method == "PLAY":
                    self.answer(handler, headers, ["Session: 1", "Range: npt=0.000-"])
                    with self.changed:
                        self.clients += 1
                        self.changed.notify_all()
                    playing = threading.Thread(target=self.play, args=(handler.connection,), daemon=True)
                    playing.start()
                elif method == "DESCRIBE" and not self.known(headers):
                    self.refused += 1
                    self.answer(handler, headers, ['WWW-Authenticate: Basic realm="yard"'], status="401 Unauthorized")
                elif method == "DESCRIBE":
                    body = ("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=yard\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\nc=IN IP4 0.0.0.0\r\n"
                            f"a=framerate:{self.fps:g}\r\na=control:track1\r\n").encode()
                    self.answer(handler, headers, ["Content-Type: application/sdp"], body)
                elif method == "SETUP":
                    transport = headers.get("transport", "")
                    if "interleaved" not in transport:
                        self.answer(handler, headers, [], status="461 Unsupported transport")
                        continue
                    self.answer(handler, headers, ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"])
                else:
                    self.answer(handler, headers, ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"])
                    if method == "TEARDOWN":
                        return
        finally:
            self.open.discard(handler.connection)

    def known(self, headers):
        if not self.user:
            return True
        return headers.get("authorization") == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def read_request(self, stream):
        line = stream.readline()
        while line in (b"\r\n", b"\n") or line[:1] == b"$":
            if line[:1] == b"$":  # RTCP of the player, in between
                return None if not line else self.read_request(stream)
            line = stream.readline()
        if not line:
            return None
        headers = {}
        while (entry := stream.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = entry.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        found = re.match(rb"[^A-Z]*([A-Z_]+) ", line)
        return (found[1].decode() if found else "OPTIONS"), headers

    def answer(self, handler, headers, lines, body=b"", status="200 OK"):
        head = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}", *lines, f"Content-Length: {len(body)}", "", ""]
        handler.wfile.write("\r\n".join(head).encode() + body)

    def play(self, connection):
        sequence = 0
        try:
            while not self.ended.wait(1.0 / self.fps):
                if self.mode == "stall":
                    continue
                if self.mode == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                if self.mode == "rubbish":
                    connection.sendall(os.urandom(5000))
                    continue
                number = self.sent
                self.sent += 1
                picture = self.picture(number)
                for packet in self.packets(picture, number, sequence):
                    connection.sendall(packet)
                    sequence += 1
        except OSError:
            pass

    def packets(self, picture, number, sequence):
        """One picture as RTP packets, each in its interleaved frame."""
        height, width = picture.shape[:2]
        tables, data = jpeg_parts(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())
        if self.mode == "broken":
            data = os.urandom(len(data))
        offset = 0
        while offset < len(data):
            part = data[offset : offset + PAYLOAD_BYTES]
            jpeg = struct.pack(">B3sBBBB", 0, offset.to_bytes(3, "big"), 1, 255, width // 8, height // 8)
            if offset == 0:
                jpeg += struct.pack(">BBH", 0, 0, 128) + tables
            offset += len(part)
            last = 0x80 if offset >= len(data) else 0
            stamp = round(number * 90_000 / self.fps) & 0xFFFFFFFF
            rtp = struct.pack(">BBHII", 0x80, 26 | last, sequence & 0xFFFF, stamp, 0x1234)
            body = rtp + jpeg + part
            yield b"$\x00" + struct.pack(">H", len(body)) + body
            sequence += 1
