"""Many connections at once, for the tests of the admin server."""


def closed_among(sockets):
    """How many of them the other side has closed; nothing was to be read from the others."""
    closed = 0
    for s in sockets:
        s.setblocking(False)
        try:
            closed += s.recv(1) == b""
        except BlockingIOError:
            pass
        except ConnectionResetError:
            closed += 1
    return closed
