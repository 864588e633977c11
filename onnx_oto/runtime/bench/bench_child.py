"""The process that measures models on the runtime that will serve them: a script for any Python from 3.9 on.

It needs numpy and a runtime, nothing of this package, because it is started by the interpreter of another environment.
One JSON object per line comes in and one goes out: {"do": "describe" | "measure" | "weigh" | "quit", ...} is answered
by {"done": ...} or {"error": KIND, "text": ..., ...}. Output of native code goes nowhere. It ends when its input does,
whatever is running, and signals are the business of its parent.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import gc
import hashlib
import importlib
import itertools
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

WARM_UP = 2
MOST_PROFILED = 50
"""Rounds with a profile: one run makes some events for each node, and a runtime keeps a million of them."""
_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP")

Node = tuple[str, str, float]
"""Name, operator and milliseconds of a node in one run."""


class Trouble(Exception):
    """What is answered instead of a result: a kind of error, and what to tell of it."""

    def __init__(self, kind: str, **told: Any) -> None:
        super().__init__(kind)
        self.answer = {"error": kind, **told}


class OnnxRuntime:
    """Sessions of ONNX Runtime on its CPU provider."""

    title = "ONNX Runtime"
    package = "onnxruntime"

    def __init__(self) -> None:
        self._module = _imported(self.package)
        self.version = str(self._module.__version__)

    def open(self, path: str, threads: int, folder: str | None) -> _OnnxRuntimeSession:
        """Open a model; a `folder` gets the profile of its runs."""
        options = self._module.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Else the threads of the model before go on spinning, on the cores of the one that is timed now.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if folder:
            options.enable_profiling = True
            # The runtime adds the second of the day: sessions that are opened in the same one must not share a file.
            options.profile_file_prefix = os.path.join(folder, f"profile-{next(_numbers)}")
        session = self._module.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return _OnnxRuntimeSession(session)


class _OnnxRuntimeSession:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [value.name for value in session.get_inputs()]

    @property
    def provider(self) -> str:
        return str(self._session.get_providers()[0])

    def run(self, feed: dict[str, Any]) -> None:
        self._session.run(None, {name: feed[name] for name in self._names if name in feed})

    def nodes(self) -> list[list[Node]]:
        """Return the nodes of every run so far, in the order in which they ran."""
        path = self._session.end_profiling()
        with open(path, encoding="utf-8") as file:
            events = json.load(file)
        os.unlink(path)
        return runs_in_profile(events)


class OpenVino:
    """Models compiled for the CPU by OpenVINO."""

    title = "OpenVINO"
    package = "openvino"

    def __init__(self) -> None:
        self._module = _imported(self.package)
        self._core = self._module.Core()
        self.version = str(self._module.__version__).partition("-")[0]

    def open(self, path: str, threads: int, folder: str | None) -> _OpenVinoRequest:
        """Open a model; a `folder` that is named asks for a profile of its runs, which needs no file here."""
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        if folder:
            options["PERF_COUNT"] = True
        return _OpenVinoRequest(self._core.compile_model(path, "CPU", options), bool(folder))


class _OpenVinoRequest:
    provider = "CPU"

    def __init__(self, compiled: Any, profiled: bool) -> None:
        self._request = compiled.create_infer_request()
        self._names = [value.get_names() for value in compiled.inputs]
        self._profiled = profiled
        self._runs: list[list[Node]] = []

    def run(self, feed: dict[str, Any]) -> None:
        given = {place: feed[name] for place, names in enumerate(self._names) for name in names & feed.keys()}
        self._request.infer(given, share_inputs=True)
        if self._profiled:
            self._runs.append(
                [
                    (info.node_name, info.node_type, info.real_time.total_seconds() * 1000)
                    for info in self._request.get_profiling_info()
                    if info.status.name == "EXECUTED"
                ]
            )

    def nodes(self) -> list[list[Node]]:
        return self._runs


ENGINES: dict[str, Any] = {engine.package: engine for engine in (OnnxRuntime, OpenVino)}
"""What can measure, by the name of its package. `auto` is the first that is installed."""
_opened: dict[str, Any] = {}
_numbers = itertools.count()


def main() -> None:
    """Answer one request after the other until standard input ends."""
    with contextlib.suppress(ValueError):  # what lies beside this script is not for others to import
        sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    for name in _IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    lines, replies = _take_pipes()
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=[lines, requests], daemon=True).start()
    while True:
        request = json.loads(requests.get())
        if request["do"] == "quit":
            os._exit(0)
        replies.write(json.dumps(_answer(request)) + "\n")
        replies.flush()


def _take_pipes() -> tuple[TextIO, TextIO]:
    """Return the streams of requests and replies; nobody else reads standard input or writes to standard output."""
    lines = os.fdopen(os.dup(0), encoding="ascii")
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)
    return lines, replies


def _read(lines: TextIO, requests: queue.Queue[str]) -> None:
    """Hand on what comes in; at its end the parent is gone, and this process goes too."""
    for line in lines:
        requests.put(line)
    os._exit(0)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        engine = _engine(request["engine"])
        return {"done": _DOES[request["do"]](engine, request)}
    except Trouble as trouble:
        return trouble.answer
    except Exception as error:
        return {"error": "failed", "text": _said(error)}


def _engine(name: str) -> Any:
    if name == "auto":
        for each in ENGINES:
            with contextlib.suppress(Trouble):
                return _engine(each)
        return _engine(next(iter(ENGINES)))
    if name not in _opened:
        _opened[name] = ENGINES[name]()
    return _opened[name]


def _imported(package: str) -> Any:
    module = None
    for needed in ("numpy", package):
        try:
            module = importlib.import_module(needed)
        except Exception as error:  # a half-removed package fails in many ways
            if isinstance(error, ModuleNotFoundError) and error.name == needed:
                raise Trouble("missing", package=needed) from error
            raise Trouble("broken", package=needed, text=_said(error)) from error
    return module


def describe(engine: Any, _: dict[str, Any]) -> dict[str, Any]:
    """Return what measures here, and on which processor."""
    name, features = _processor()
    return {
        "runtime": engine.title,
        "version": engine.version,
        "engine": engine.package,
        "processor": name,
        "features": hashlib.sha256(" ".join(sorted(features.split())).encode()).hexdigest()[:12],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def _processor() -> tuple[str, str]:
    """Return the name of the processor and the features that the system lists, "" where it lists none."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            pairs = (line.partition(":") for line in file)
            facts = {key.strip().lower(): value.strip() for key, _, value in pairs}
            return facts.get("model name", name), facts.get("flags") or facts.get("features", "")
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(command, capture_output=True, text=True).stdout.strip() or name
    return name, ""


def measure(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return {"models": ..., "cpu": seconds that processors worked for it, all threads together}.

    Each model is {"times": milliseconds of every counted run, "nodes": [name, operator, milliseconds]}. Nodes are timed
    in sessions of their own, in half of the time again: a profile makes a model slower.
    """
    begin = time.process_time()
    feed = _feed(request)
    least, most, seconds = request["least"], request["most"], request["seconds"]
    times = interleaved(_runs(engine, request, feed, None)[1], seconds, least, most)
    nodes: list[list[Node]] = [[] for _ in times]
    if request["nodes"]:
        sessions, runs = _runs(engine, request, feed, request["folder"])
        interleaved(runs, seconds / 2, least, min(most, MOST_PROFILED))
        uncounted = 1 if len(runs) > 1 else 0
        counted = slice(WARM_UP + uncounted, None, 1 + uncounted)
        profiles = [session.nodes() for session in sessions]
        nodes = [usual(profile[counted] or profile[-1:]) for profile in profiles]
    models = [{"times": its, "nodes": nodes[place]} for place, its in enumerate(times)]
    return {"models": models, "cpu": time.process_time() - begin}


def weigh(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return {"provider": what runs the first model, "memory", "peak": bytes that it takes here, None where unknown}.

    memory: what the process holds more than before, once the model has run; peak: the most that it held meanwhile. Both
    are of a process that has opened nothing else: memory that another model gave back would be taken for free.
    """
    feed = _feed(request)
    _forget_peak()
    before, _ = _resident()
    (session,), (run,) = _runs(engine, {**request, "models": request["models"][:1]}, feed, None)
    run()
    now, most = _resident()
    found = {"provider": session.provider, "memory": None, "peak": None}
    if before is not None and now is not None and most is not None:
        found |= {"memory": max(now - before, 0), "peak": max(most - before, 0)}
    return found


def _resident() -> tuple[int | None, int | None]:
    """Return the bytes of memory that this process has now, and the most it had; None where the system is silent."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, KeyError), open("/proc/self/status") as file:
            pairs = (line.partition(":") for line in file)
            facts = {key: value.split()[0] for key, _, value in pairs if value.split()}
            return 1024 * int(facts["VmRSS"]), 1024 * int(facts["VmHWM"])
    with contextlib.suppress(ImportError):
        most = importlib.import_module("resource").getrusage(0).ru_maxrss
        size = int(most) * (1 if sys.platform == "darwin" else 1024)
        return size, size
    return None, None


def _forget_peak() -> None:
    """Let the peak of memory begin anew, where the system can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")


def _feed(request: dict[str, Any]) -> dict[str, Any]:
    numpy = importlib.import_module("numpy")
    with numpy.load(request["inputs"], allow_pickle=False) as arrays:
        return {name: arrays[f"arr_{place}"] for place, name in enumerate(request["names"])}


_DOES: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "describe": describe,
    "measure": measure,
    "weigh": weigh,
}


def _runs(
    engine: Any, request: dict[str, Any], feed: dict[str, Any], folder: str | None
) -> tuple[list[Any], list[Callable[[], None]]]:
    """Return the open sessions of all models, and what runs each of them once; they have run WARM_UP times."""
    sessions = []
    for place, path in enumerate(request["models"]):
        try:
            session = engine.open(path, request["threads"], folder)
            for _ in range(WARM_UP):
                session.run(feed)
        except Exception as error:
            raise Trouble("refused", model=place, text=_said(error)) from error
        sessions.append(session)
    return sessions, [lambda session=session: session.run(feed) for session in sessions]  # type: ignore[misc]


def interleaved(runs: list[Callable[[], None]], seconds: float, least: int, most: int) -> list[list[float]]:
    """Return the milliseconds of every counted run of each of `runs`, for about `seconds` in all.

    One round has each of them once, and the next one begins with the next of them, so that all share the good and bad
    moments of the machine. `least` rounds are made in any case, and at most `most`. Where several take turns, each runs
    once uncounted before: a server that runs one model finds its weights in the caches.
    """
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    with _without_collections():
        while len(times[0]) < least or (time.perf_counter() < end and len(times[0]) < most):
            first = len(times[0]) % len(runs)
            for place in (*range(first, len(runs)), *range(first)):
                if len(runs) > 1:
                    runs[place]()
                begin = time.perf_counter()
                runs[place]()
                times[place].append(1000 * (time.perf_counter() - begin))
    return times


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def runs_in_profile(events: list[dict[str, Any]]) -> list[list[Node]]:
    """Return the nodes of every run in a profile of ONNX Runtime, in the order in which they ran.

    Nodes of bodies (If, Loop) lie inside the time of the node that has them, which is counted already.
    """
    starts = sorted(e["ts"] for e in events if e.get("cat") == "Session" and e["name"] == "model_run")
    runs: list[list[Node]] = [[] for _ in starts]
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    end = -1
    for event in sorted(kernels, key=lambda e: (e["ts"], -e["dur"])):
        run = bisect.bisect_right(starts, event["ts"]) - 1
        if run < 0 or event["ts"] < end:
            continue
        end = event["ts"] + event["dur"]
        name = event["name"][: -len("_kernel_time")]
        runs[run].append((name, event["args"].get("op_name", ""), event["dur"] / 1000))
    return runs


def usual(runs: list[list[Node]]) -> list[Node]:
    """Return each node with the lower quartile of all runs; nothing for no runs.

    Other work on the machine only ever adds: of many short times the lower ones say what a node takes. A run that has
    other nodes than most of them counts for nothing: its profile is not whole.
    """
    if not runs:
        return []
    orders = [tuple(node[:2] for node in run) for run in runs]
    common = collections.Counter(orders).most_common(1)[0][0]
    whole = [run for run, order in zip(runs, orders) if order == common]  # noqa: B905
    return [(*key, _lower_quartile([run[place][2] for run in whole])) for place, key in enumerate(common)]


def _lower_quartile(values: list[float]) -> float:
    return sorted(values)[len(values) // 4]


def _said(error: BaseException) -> str:
    return str(error)[:10_000] or type(error).__name__


if __name__ == "__main__":
    main()
