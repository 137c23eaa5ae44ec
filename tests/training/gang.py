"""Real processes that find each other as those of torchrun do, for tests of what they share."""

import multiprocessing
import os
import random
import socket

import torch

# Processes that begin with torch loaded: a start costs a blink, not seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torchvision", "cgdcli.training.loop"])


def free_port():
    """Below the ports that the system hands out by itself: a process of another test that asks for
    any port cannot get this one before rank 0 has it."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def environment(rank, size, port):
    """What torchrun tells each process."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _member(function, said, folder, arguments):
    os.environ.update(said)
    torch.set_num_threads(1)
    torch.save(function(*arguments), folder / f"{said['RANK']}.pt")


def start(size, function, folder, *arguments):
    """`function(*arguments)` in `size` processes, which are handed back as they run."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    members = [
        CONTEXT.Process(
            target=_member, args=(function, environment(rank, size, port), folder, arguments)
        )
        for rank in range(size)
    ]
    for member in members:
        member.start()
    return members


def gang(size, function, folder, *arguments, patience=60):
    """What `function(*arguments)` returned in each of `size` processes, by rank."""
    members = start(size, function, folder, *arguments)
    for member in members:
        member.join(patience)
    codes = [member.exitcode for member in members]
    for member in members:
        member.kill()
    assert codes == [0] * size, codes
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]
