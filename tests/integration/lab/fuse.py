"""Two mounts that hang, in a mount namespace of their own: what a dead NFS server does to a VM.

Run as a program: `unshare --mount --propagation private PYTHON fuse.py UNREAD UNANSWERED`. It
mounts a FUSE file system on each folder, shaped like NFS in /proc/mounts, and prints `ready`:

UNREAD      its server is stopped before it reads anything: whoever waits for it can be killed.
UNANSWERED  its server reads each request and says nothing: whoever waits cannot be killed.

It ends when its input does. The kernel ends all waiting when the servers go, the servers go with
this program, and the mounts go with the namespace: nothing has to be cleaned up by anybody else.
Only INIT is answered (include/uapi/linux/fuse.h, protocol 7.31).
"""

import ctypes
import os
import signal
import struct
import sys

_IN_HEADER = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
_OUT_HEADER = struct.Struct("<IiQ")  # length, error, unique
_INIT_OUT = struct.Struct("<IIIIHHIIHHI7I")  # as of 7.23 and later
_INIT = 26
_REQUEST_BYTES_MAX = 1 << 20
_PR_SET_PDEATHSIG = 1
_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def main(unread: str, unanswered: str) -> None:
    """Mount both, start the servers, stay until the input ends."""
    die_with_parent()
    servers = []
    try:
        for number, (folder, serve) in enumerate(((unread, stop), (unanswered, swallow))):
            device = os.open("/dev/fuse", os.O_RDWR)
            mount(f"nas-{number}:/export", folder, device)
            answer_init(device)
            servers.append(fork(serve, device))
            os.close(device)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        for server in servers:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
        for folder in (unread, unanswered):
            _libc.umount2(folder.encode(), _MNT_DETACH)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def mount(source: str, folder: str, device: int) -> None:
    """The system call, with the open device as the end of the server."""
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    flags = _MS_NOSUID | _MS_NODEV
    if _libc.mount(source.encode(), folder.encode(), b"fuse.nfs4", flags, options) != 0:
        raise OSError(ctypes.get_errno(), f"mount on {folder}")


def answer_init(device: int) -> None:
    """The first request, the only one that is answered."""
    request = os.read(device, _REQUEST_BYTES_MAX)
    _, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
    assert opcode == _INIT
    reply = _INIT_OUT.pack(7, 31, 65536, 0, 12, 9, 65536, 1, 16, 0, 0, *[0] * 7)
    os.write(device, _OUT_HEADER.pack(_OUT_HEADER.size + len(reply), 0, unique) + reply)


def fork(serve, device: int) -> int:
    """A child that serves and never comes back here."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        try:
            serve(device)
        finally:
            os._exit(1)
    return child


def stop(device: int) -> None:
    """Read nothing any more."""
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)


def swallow(device: int) -> None:
    """Read every request and answer none."""
    while True:
        os.read(device, _REQUEST_BYTES_MAX)


if __name__ == "__main__":
    main(*sys.argv[1:])
