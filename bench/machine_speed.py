"""How fast this machine is right now: a fixed load on every rank's core, all at once.

A virtual machine's speed drifts by tens of per cent within minutes with what its neighbours do. Measuring the
same load around each run tells the drift of the machine from the error of a prediction.
"""

import multiprocessing
import os
import statistics

LOADS = 24  # a load: four products of the demo model's size and one pass over memory, about 40 ms


def _serve(cpu, connection):
    os.sched_setaffinity(0, {cpu})
    import time

    import torch

    torch.set_num_threads(1)
    activations, weights = torch.randn(2048, 256), torch.randn(1024, 256)
    stream = torch.randn(1 << 20)
    while connection.recv():
        times = []
        for _ in range(LOADS):
            start = time.perf_counter()
            for _ in range(4):
                torch.nn.functional.linear(activations, weights)
            stream.add_(1e-9)
            times.append(time.perf_counter() - start)
        connection.send(statistics.mean(sorted(times)[: LOADS * 9 // 10]))


class MachineSpeed:
    """Worker processes, one pinned to each of these processors, that sleep between measurements."""

    def __init__(self, cpus):
        self._connections = []
        self._workers = []
        for cpu in cpus:
            ours, theirs = multiprocessing.Pipe()
            worker = multiprocessing.Process(target=_serve, args=(cpu, theirs), daemon=True)
            worker.start()
            self._connections.append(ours)
            self._workers.append(worker)
        self.load_time()  # imports and first touches

    def load_time(self):
        """Seconds of one load, mean over cores that all run it at once."""
        for connection in self._connections:
            connection.send(True)
        return statistics.mean(connection.recv() for connection in self._connections)

    def close(self):
        for connection in self._connections:
            connection.send(False)
        for worker in self._workers:
            worker.join()
