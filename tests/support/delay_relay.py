"""A relay of a socket that delays each direction: `delay_relay.py LISTEN TARGET MILLISECONDS`; both are paths of
Unix sockets or ports of 127.0.0.1.

The distance between a mount and its daemon, or a daemon and a site, without privileges and without losing bytes: what arrives
leaves half a round trip later. Delay, not bandwidth, is what metadata feel.
"""

import asyncio
import os
import sys


async def carry(reader, writer, delay_s):
    """Bytes in order, each `delay_s` after it came."""
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()

    async def send():
        while True:
            due, data = await queue.get()
            if data is None:
                writer.close()
                return
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(data)
            await writer.drain()

    sender = asyncio.create_task(send())
    while data := await reader.read(1 << 18):
        queue.put_nowait((loop.time() + delay_s, data))
    queue.put_nowait((0, None))
    await sender


async def relay(listen, target, round_trip_ms):
    async def accepted(reader, writer):
        try:
            if target.isdecimal():
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target), limit=1 << 20)
            else:
                far_reader, far_writer = await asyncio.open_unix_connection(target, limit=1 << 20)
        except OSError:
            writer.close()
            return
        half = round_trip_ms / 2000
        await asyncio.gather(carry(reader, far_writer, half), carry(far_reader, writer, half),
                             return_exceptions=True)

    if listen.isdecimal():
        server = await asyncio.start_server(accepted, "127.0.0.1", int(listen), limit=1 << 20)
    else:
        if os.path.exists(listen):
            os.unlink(listen)
        server = await asyncio.start_unix_server(accepted, listen, limit=1 << 20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], sys.argv[2], float(sys.argv[3])))
