"""Runs the shards of a sweep on Dask workers: processes of this machine, or jobs of a cluster.

Dask is an extra (``pip install 'cortexff[sweep]'``) and is imported only when workers are asked for.
"""

from __future__ import annotations

import importlib
import os
import queue
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cortexff.environment import now
from cortexff.errors import CortexffError
from cortexff.protocol import provenance
from cortexff.protocol.checkpoint import path_for
from cortexff.protocol.merge import merge
from cortexff.protocol.presentation import images_of
from cortexff.protocol.runner import Interrupted, Listener, Run
from cortexff.protocol.sweep import Point, Shard

if TYPE_CHECKING:
    from distributed import Client

REPORT_EVERY = 1.0  # seconds between two words of a shard on how far it has come
TOPIC = "cortexff"

_stopping = threading.Event()  # in each worker: set when the user has asked to stop


def run_shard(shard: Shard, device: str, threads: int) -> str:
    """Run a shard, or what is left of it, and say how it ended: finished or interrupted.

    A worker that is lost (a batch job at its time limit, say) costs little: Dask gives the shard to another worker, and
    that one goes on from the checkpoint.
    """
    path, point = shard.path, shard.point
    go_on = path_for(path).exists()
    if path.exists() and provenance.status_of(path, point.origin) == "finished":
        path_for(path).unlink(missing_ok=True)  # left where a worker was lost between its two last acts
        return "finished"
    if _stopping.is_set():
        return "interrupted"
    torch.set_num_threads(threads)
    images = images_of(point.protocol.stimuli)
    log = provenance.open_log(
        path,
        point.protocol,
        point.net,
        point.protocol.versions(images.classes),
        point.origin,
        go_on,
        not go_on,
        shard.subjects,
    )
    with log, _Reporter(shard) as listener:
        run = Run(
            point.protocol,
            point.net,
            images,
            log,
            path_for(path),
            listener,
            log.attribute("started"),
            shard.subjects,
            device,
            [shard.variant],
        )
        try:
            run.carry_out(resume=go_on)
        except Interrupted:
            log.close("interrupted")
            return "interrupted"
        finally:  # a worker outlives its shards
            Run._stimuli.cache_clear()
            Run._engine.cache_clear()
        log.attributes("/", {"finished": now()})
    run.forget_checkpoint()
    return "finished"


class _Reporter:
    """Sends how far a shard has come to whoever started it, not more often than is worth reading."""

    def __init__(self, shard: Shard) -> None:
        self.path, self.done, self.said = str(shard.path), 0, 0.0

    def __enter__(self) -> Listener:
        from distributed import get_worker

        self.worker = get_worker()
        noted = partial(self._send, "noted")
        return Listener(self._advanced, noted=noted, stop=_stopping.is_set, resumed=self._resumed)

    def __exit__(self, *_: object) -> None:
        self._send("done", self.done)

    def _advanced(self, updates: int) -> None:
        self.done += updates
        if time.monotonic() - self.said > REPORT_EVERY:
            self.said = time.monotonic()
            self._send("done", self.done)

    def _resumed(self, updates: int) -> None:
        self.done += updates
        self._send("resumed", self.done)

    def _send(self, kind: str, what: Any) -> None:
        self.worker.log_event(TOPIC, (kind, self.path, what))


def _stop() -> None:
    _stopping.set()


# ------------------------------------------------------------------------ Dask


def check_installed(cluster: str | None) -> None:
    """Raises CortexffError where a package that is needed is missing."""
    for package in ("distributed", *(["dask_jobqueue"] if cluster else [])):
        try:
            importlib.import_module(package)
        except ImportError as error:
            name = package.replace("_", "-")
            raise CortexffError(
                f"--jobs, --cluster and --sweep need the package {name}, which is not installed: "
                "pip install 'cortexff[sweep]'"
            ) from error
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise CortexffError("--jobs, --cluster and --sweep do not go with torchrun: start one process")


def slurm() -> Any:
    """A cluster of batch jobs, one worker each, none submitted yet; queue, cores and so on are Dask's own settings."""
    import dask
    from dask_jobqueue import SLURMCluster

    # One shard at a time in a job: its cores are for the threads of PyTorch.
    arguments = [*dask.config.get("jobqueue.slurm.worker-extra-args", default=[]), "--nthreads", "1"]
    try:
        return SLURMCluster(processes=1, worker_extra_args=arguments)
    except ValueError as error:
        raise CortexffError(
            "--cluster slurm: Dask's settings name no cores or memory of a job: write them, with queue, account and "
            "walltime, in ~/.config/dask/jobqueue.yaml, such as 'jobqueue: {slurm: {cores: 4, memory: 8GB}}'"
        ) from error


def check_cluster() -> None:
    """Raises CortexffError where jobs cannot be submitted, before anything is written."""
    if shutil.which("sbatch") is None:
        raise CortexffError("--cluster slurm: this machine has no sbatch; --dry-run prints the job script")
    job_script()


def job_script() -> str:
    """The script by which each job of the cluster would be submitted."""
    with slurm() as cluster:
        return cluster.job_script()


@contextmanager
def start(jobs: int, cluster: str | None) -> Iterator[tuple[Client, int]]:
    """Dask workers, and the number of threads that each has for PyTorch.

    jobs     number of workers: processes of this machine, or jobs of the cluster
    cluster  "slurm", or None for this machine
    """
    import dask
    from distributed import Client, LocalCluster

    if cluster is None:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        made = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    else:
        made, threads = slurm(), dask.config.get("jobqueue.slurm.cores")
        made.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # a job that ends at its time limit is followed by another
    with made, Client(made) as client:
        client.register_plugin(_deaf())
        yield client, threads


def _deaf() -> Any:
    """Workers hear Ctrl-C, as all processes of a terminal do, but are stopped by :func:`_stop` alone."""
    from distributed import WorkerPlugin

    class Deaf(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Deaf()


def carry_out(
    shards: Sequence[Shard],
    client: Client,
    threads: int,
    device: str,
    listener: Listener,
    finished: Callable[[Point], None],
) -> list[str]:
    """Run shards on the workers, and merge each point's as soon as they are all there.

    finished  called with each point once its file is there
    returns   what went wrong, one text for each shard or point that failed; the others are done all the same
    raises    Interrupted when the listener asked for it; what was begun is then in its checkpoint
    """
    messages: queue.Queue = queue.Queue()
    client.subscribe_topic(TOPIC, lambda event: messages.put(event[1]))
    futures, left = {}, {}
    for shard in shards:
        sent = replace(shard, point=replace(shard.point, out=shard.point.out.absolute()))
        future = client.submit(run_shard, sent, device, threads, key=str(sent.path), pure=False)
        future.add_done_callback(lambda future: messages.put(("ended", future.key, future)))
        futures[future.key], left[future.key] = future, shard
    done, stopped = dict.fromkeys(futures, 0), False
    good: set[Path] = set()
    problems: list[str] = []
    while left:
        if listener.stop() and not stopped:
            stopped = True
            client.run(_stop)  # what runs ends after the update in hand; what waits is not begun
            waiting = set(left).difference(*client.processing().values())
            client.cancel([futures[key] for key in waiting])
            left = {key: shard for key, shard in left.items() if key not in waiting}
        try:
            kind, key, what = messages.get(timeout=0.2)
        except queue.Empty:
            listener.advanced(0)  # time passes, and may be told
            if stopped:
                client.run(_stop)  # also those that came in place of a lost one
            continue
        if kind in ("done", "resumed") and key in done:
            tell = listener.advanced if kind == "done" else listener.resumed
            tell(max(0, what - done[key]))
            done[key] = max(done[key], what)
        elif kind == "noted":
            listener.noted(what)
        elif kind == "ended" and key in left:
            shard = left.pop(key)
            if what.status == "error":
                problems.append(_problem(shard, what))
                listener.noted(problems[-1])
            elif what.result() == "finished":
                good.add(shard.path)
                listener.noted(f"{shard.path} is finished; {len(left)} of {len(futures)} shards to come")
                parts = [other.path for other in shards if other.point is shard.point]
                if good.issuperset(parts):
                    try:
                        merge(parts, shard.point.out)
                        shutil.rmtree(shard.point.folder, ignore_errors=True)
                        finished(shard.point)
                    except Exception as error:  # whatever it is, the other points go on
                        problems.append(f"{shard.point.out} failed: {error}")
                        listener.noted(problems[-1])
    if stopped and len(good) + len(problems) < len(shards):
        raise Interrupted
    return problems


def _problem(shard: Shard, future: Any) -> str:
    """What happened to a shard: one line where the user can mend it, else with its traceback."""
    error = future.exception()
    text = str(error) if isinstance(error, CortexffError) else f"{type(error).__name__}: {error}"
    trace = "" if isinstance(error, CortexffError) else "".join(traceback.format_tb(future.traceback()))
    return f"{shard.path} failed: {text}" + (f"\n{trace.rstrip()}" if trace else "")
