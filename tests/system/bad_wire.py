#!/usr/bin/env python3
"""A bad wire between two tap devices: frames are lost, doubled, delayed and so reordered.

usage: bad_wire.py MACHINE_TAP HOST_TAP PER_MILLE SEED

MACHINE_TAP is the machine's (without offloads); HOST_TAP is made here. PER_MILLE of the frames, in either
direction, are lost, as many are doubled, and three times as many are late. Says "ready", and at its end
(SIGTERM) how many frames went which way and how many were lost.
"""

import fcntl
import heapq
import os
import random
import select
import signal
import socket
import struct
import sys
import time

_ETH_P_ALL, _OUTGOING = 3, 4
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454ca, 2, 0x1000
_LATE = 0.02  # seconds, at most


class _End(Exception):
    pass


def _stop(*_):
    raise _End


def main(machine, host, per_mille, seed):
    """Relays until it is told to stop."""
    random.seed(seed)
    signal.signal(signal.SIGTERM, _stop)
    inner = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    inner.bind((machine, 0))
    outer = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(outer, _TUNSETIFF, struct.pack("16sH", host.encode(), _IFF_TAP | _IFF_NO_PI))
    late, number, counts = [], 0, {"in": 0, "out": 0, "lost": 0}

    def send(way, frame):
        try:
            if way == "in":
                inner.send(frame)
            else:
                os.write(outer, frame)
        except OSError:
            pass  # lost as well

    print("ready", flush=True)
    try:
        while True:
            wait = max(0, late[0][0] - time.monotonic()) if late else None
            for source in select.select([inner, outer], [], [], wait)[0]:
                if source is outer:
                    way, frame = "in", os.read(outer, 65536)
                else:
                    frame, address = inner.recvfrom(65536)
                    if address[2] == _OUTGOING:
                        continue
                    way = "out"
                counts[way] += 1
                what = random.randrange(1000) // per_mille
                if what == 0:
                    counts["lost"] += 1
                for _ in range((0, 2, 1, 1, 1)[min(what, 4)]):
                    if what in (2, 3, 4):
                        heapq.heappush(late, (time.monotonic() + random.random() * _LATE, number, way, frame))
                        number += 1
                    else:
                        send(way, frame)
            while late and late[0][0] <= time.monotonic():
                _, _, way, frame = heapq.heappop(late)
                send(way, frame)
    except _End:
        print(f"{counts['in']} in, {counts['out']} out, {counts['lost']} lost", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
