"""The settings of the service: environment variables ``STRIDE32_*``, a ``.env`` file, and the flags of
``stride32 serve``, which win in the opposite order. Built once at start and passed to ``create_app``."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vision.errors import ConfigError
from vision.runtime.config import EngineName, Precision

PREFIX = "STRIDE32_"
ENV_FILE = ".env"
# Variables of the library and of its tests that carry the same prefix.
OTHER_VARIABLES = frozenset(
    {"STRIDE32_MODELS", "STRIDE32_CACHE", "STRIDE32_DEBUG", "STRIDE32_DATA", "STRIDE32_SCREENSHOTS"}
)
# What Kubernetes puts into every pod for a Service whose name begins with "stride32" (enableServiceLinks). Three forms
# are told by their names; STRIDE32_PORT and STRIDE32_<service>_PORT only by their value.
_LINK_NAME = re.compile(
    r"STRIDE32_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
_LINK_PORT_NAME = re.compile(r"STRIDE32_(\w+_)?PORT", re.ASCII)
_LINK_PORT = re.compile(r"(tcp|udp|sctp)://")
# Longer ones are no keys: hashing what strangers send would cost.
MAX_KEY_LENGTH = 512
# Documented values that switch a model of the start off.
NO_MODEL = "none"

Names = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


class Settings(BaseSettings):
    """Everything that can be set about the service; sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        # Waiting for ever is no time that a thread can be told.
        allow_inf_nan=False,
    )

    # -- where it listens
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    uds: Path | None = Field(None, description="Unix socket to listen on instead of host and port.")
    trusted_proxies: Names = Field((), description="Addresses whose X-Forwarded-For and -Proto are believed.")

    # -- models
    detector: str = Field("person-lite0", description="Default detector, loaded at start; none for no detector.")
    segmenter: str = Field("street-fcn8s", description="Default segmenter, loaded at start; none for none.")
    classifier: str = Field("tf_efficientnet_lite0", description="Default classifier, loaded at start; none for none.")
    embedder: str = Field("reid-lite", description="Default embedder, loaded at start; none for none.")
    preload: Names = Field((), description="Further models to load at start.")
    device: str = Field("auto", description="Where networks run: auto, cpu, cuda or cuda:N.")
    engine: EngineName = Field("auto", description="auto (ONNX Runtime on the CPU, torch on CUDA), onnx or torch.")
    precision: Precision = Field("fp32", description="Autocast type on CUDA: fp32, fp16 or bf16.")
    threads: int = Field(0, ge=0, description="CPU threads of one network; 0 takes the CPUs of the process.")

    # -- queue and batches
    parallel: int = Field(
        0, ge=0, description="Forward passes of a model at the same time; 0: one a CPU, and one on a GPU."
    )
    max_batch: int = Field(0, ge=0, description="Most pictures in a forward pass; 0: 1 on a CPU, measured on a GPU.")
    max_delay_ms: float = Field(0.0, ge=0, le=1000, description="Milliseconds a picture may wait for company.")
    queue_items: int = Field(128, ge=1, description="Most image requests that wait; twice as many may be sending.")
    queue_bytes: int = Field(1 << 30, ge=1 << 20, description="Most bytes of bodies and decoded pictures at a time.")
    decode_threads: int = Field(0, ge=0, description="Threads that decode pictures; 0 takes the CPUs of the process.")
    request_timeout_s: float = Field(30.0, gt=0, description="Seconds from a request's head to its answer.")

    # -- limits
    max_body_bytes: int = Field(32 << 20, ge=1024, description="Largest body of an image request.")
    max_pixels: int = Field(50_000_000, ge=1, description="Largest picture, width times height, as its header says.")
    body_timeout_s: float = Field(
        20.0, gt=0, description="Seconds in which a body must arrive (uploads: between parts)."
    )
    header_timeout_s: float = Field(10.0, gt=0, description="Seconds in which a request's head must arrive.")
    max_header_bytes: int = Field(16 << 10, ge=1024, description="Largest head of a request.")
    max_headers: int = Field(100, ge=8, description="Most header lines of a request.")
    max_url_bytes: int = Field(8 << 10, ge=256, description="Longest path and query.")
    max_connections: int = Field(1000, ge=1, description="Most open connections.")
    max_connections_per_client: int = Field(250, ge=1, description="Most open connections of one address.")
    keep_alive_s: float = Field(15.0, gt=0, description="Seconds an idle connection is kept.")
    drain_timeout_s: float = Field(30.0, ge=0, description="Seconds that requests in flight get after SIGTERM.")

    # -- who may ask
    api_keys: Secrets = Field((), description="Keys that may use the service, separated by commas; none: everybody.")
    admin_keys: Secrets = Field((), description="Keys that may also load and unload models.")
    rate_limit: float = Field(0.0, ge=0, description="Requests a second of one key (or address); 0: no limit.")
    rate_burst: int = Field(0, ge=0, description="Requests that may come at once; 0: twice the rate.")
    metrics_auth: bool = Field(False, description="Whether /metrics and /v1/stats need a key, too.")
    cors_origins: Names = Field((), description="Origins whose pages may call the service from a browser.")
    allowed_hosts: Names = Field(
        (), description="Names in Host that are answered; none: all, or on a loopback address none of the internet."
    )
    fetch_hosts: Names = Field((), description="Hosts from which image addresses are fetched; none: no fetching.")

    # -- tracking sessions
    session_ttl_s: float = Field(60.0, gt=0, description="Seconds without a frame after which a session ends.")
    session_max_ttl_s: float = Field(3600.0, gt=0, description="Longest time-to-live that a client may ask for.")
    sessions_max: int = Field(256, ge=1, description="Most sessions at a time.")
    sessions_max_per_key: int = Field(32, ge=1, description="Most sessions of one key.")
    sessions_max_state_bytes: int = Field(2 << 30, ge=1 << 20, description="Most bytes of the tracks of all sessions.")
    session_credit: int = Field(4, ge=1, le=64, description="Frames of one session that may wait.")
    session_workers: int = Field(32, ge=1, description="Threads that advance sessions.")

    # -- video jobs
    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("stride32")) / "service",
        description="Folder of the job queue, uploads and results.",
    )
    jobs_workers: int = Field(1, ge=0, description="Video jobs that run at a time; 0 switches jobs off.")
    jobs_max_upload_bytes: int = Field(2 << 30, ge=1024, description="Largest video.")
    jobs_upload_timeout_s: float = Field(3600.0, gt=0, description="Seconds in which a whole video must arrive.")
    jobs_max_duration_s: float = Field(3600.0, gt=0, description="Longest video.")
    jobs_max_queued: int = Field(100, ge=1, description="Most jobs that wait.")
    jobs_max_per_key: int = Field(20, ge=1, description="Most waiting and running jobs of one key.")
    jobs_retention_s: float = Field(86400.0, gt=0, description="Seconds that results of a finished job are kept.")
    jobs_disk_quota_bytes: int = Field(20 << 30, ge=1 << 20, description="Most bytes of uploads and results.")
    jobs_checkpoint_s: float = Field(5.0, gt=0, description="Seconds between checkpoints of a running job.")

    # -- what it tells
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level of log lines.")
    log_format: Literal["json", "text"] = Field("json", description="Form of log lines.")
    access_log: bool = Field(True, description="Whether each request gives a log line.")
    otel: bool = Field(False, description="Whether traces are sent by OpenTelemetry (extra otel, OTEL_* variables).")
    web: bool = Field(True, description="Whether the page at / is served.")
    docs: bool = Field(True, description="Whether /openapi.json is served.")

    @field_validator(
        "trusted_proxies",
        "preload",
        "cors_origins",
        "allowed_hosts",
        "fetch_hosts",
        "api_keys",
        "admin_keys",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Read ``a, b`` as two names."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("api_keys", "admin_keys")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            text = key.get_secret_value()
            if not 16 <= len(text) <= MAX_KEY_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError(
                    f"keys must have 16 to {MAX_KEY_LENGTH} ASCII characters without spaces; make one with: openssl "
                    "rand -hex 24"
                )
        return keys

    @field_validator("port", mode="before")
    @classmethod
    def _link_is_no_port(cls, value: Any) -> Any:
        """Take the default where Kubernetes has overwritten our variable with an address of its own."""
        is_link = isinstance(value, str) and _LINK_PORT.match(value)
        return cls.model_fields["port"].default if is_link else value

    @field_validator("uds", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.session_ttl_s > self.session_max_ttl_s:
            raise ValueError(
                f"session_ttl_s must be at most session_max_ttl_s ({self.session_max_ttl_s}), got {self.session_ttl_s}"
            )
        return self

    @property
    def ws_max_bytes(self) -> int:
        """Largest WebSocket message: a picture."""
        return self.max_body_bytes


def load_settings(**flags: Any) -> Settings:
    """Return the settings of environment, ``.env`` and ``flags`` (None: not given).

    Raises:
        ConfigError: a value is of the wrong type or out of range, or a variable with our prefix is none of ours.
    """
    _refuse_unknown({**dotenv_values(ENV_FILE), **os.environ})
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as exc:
        lines = [f"{_place(error['loc'])}: {error['msg'].removeprefix('Value error, ')}" for error in exc.errors()]
        raise ConfigError(
            f"the service's settings must fit docs/service.md; {'; '.join(lines)}; correct them"
        ) from None  # the cause would print values, which may be keys


def _refuse_unknown(environ: Mapping[str, str | None]) -> None:
    """Raise ConfigError for a misspelt variable, which would otherwise do nothing and say nothing."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    for name, value in environ.items():
        if name.upper().startswith(PREFIX) and name.upper() not in known and not _is_service_link(name.upper(), value):
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(f"{name} is no setting of the service{hint}; remove it or see docs/service.md")


def _is_service_link(name: str, value: str | None) -> bool:
    """Return whether Kubernetes has set a variable, and not the operator.

    >>> _is_service_link("STRIDE32_SERVICE_HOST", "10.0.0.1"), _is_service_link("STRIDE32_WEB_PORT", "tcp://10.0.0.1:80")
    (True, True)
    """
    is_port = _LINK_PORT_NAME.fullmatch(name) is not None and _LINK_PORT.match(value or "") is not None
    return is_port or _LINK_NAME.fullmatch(name) is not None


def _place(location: tuple[int | str, ...]) -> str:
    return PREFIX + str(location[0]).upper() if location else "settings"
