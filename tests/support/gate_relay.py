"""A relay of a Unix socket whose way back can be shut: what the daemon says then waits. So a test sees
which requests a mount sends without waiting for answers."""

import os
import socket
import threading


class GateRelay:
    def __init__(self, listen, target):
        self.target = str(target)
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(16)
        self.path = listen
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self):
        self._open.clear()

    def open(self):
        self._open.set()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self.target)
            except OSError:
                near.close()
                continue
            for source, sink, gate in ((near, far, None), (far, near, self._open)):
                threading.Thread(target=self._carry, args=(source, sink, gate), daemon=True).start()

    @staticmethod
    def _carry(source, sink, gate):
        try:
            while data := source.recv(1 << 18):
                if gate is not None:
                    gate.wait()
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.open()
        self._listener.close()
        os.unlink(self.path)
