"""Which processes make a stack, on which ports, with which settings."""

import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from gannet_client import config
from gannet_client.local.home import Home, StackFailed

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 7700
# Ports relative to the gateway's; metrics are a hundred above.
_OFFSETS = {"edge": 10, "embedder": 1, "reranker": 2, "generator": 3, "gateway": 0}
_METRICS_OFFSET = 100
_PORT_MAX = 65535 - max(_OFFSETS.values()) - _METRICS_OFFSET


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """One process: its command, the port that it serves health on, and what its environment adds to ours."""

    name: str
    command: tuple[str, ...]
    port: int
    environment: Mapping[str, str]


def plan_stack(home: Home, port: int, qdrant_url: str | None) -> tuple[ServicePlan, ...]:
    """The processes of a stack whose gateway listens on `port`; 0 picks free ports for all.

    Args:
        home: holds their data, models and logs.
        port: the gateway's; the others' follow from it.
        qdrant_url: the user's Qdrant; None plans the embedded one.

    Raises:
        StackFailed: a port is taken.
    """
    names = [name for name in _OFFSETS if not (name == "edge" and qdrant_url)]
    if not 0 <= port <= _PORT_MAX:
        raise StackFailed(f"--port must be 0 to {_PORT_MAX}")
    free = _free_ports(2 * len(names)) if port == 0 else []
    ports = {name: free.pop() if free else port + _OFFSETS[name] for name in names}
    metrics_ports = {name: free.pop() if free else ports[name] + _METRICS_OFFSET for name in names}
    for name in names:
        _check_free(ports[name], name)
        _check_free(metrics_ports[name], f"metrics of the {name}")
    targets = {name: f"{LOOPBACK}:{ports[name]}" for name in names}
    models = {"MODELS_DIR": str(home.models)}
    own: dict[str, dict[str, str]] = {
        "edge": {"DATA_DIR": str(home.data / "vectors")},
        "embedder": models,
        "reranker": models,
        "generator": models,
        "gateway": {
            "DATA_DIR": str(home.data / "gateway"),
            "EMBEDDER_TARGET": targets["embedder"],
            "RERANKER_TARGET": targets["reranker"],
            "GENERATOR_TARGET": targets["generator"],
            "QDRANT_URL": qdrant_url or f"http://{targets['edge']}",
            "BOOTSTRAP_API_KEY_FILE": str(home.api_key_file),
        },
    }
    return tuple(_plan(home, name, ports[name], metrics_ports[name], own[name]) for name in names)


def _plan(home: Home, name: str, port: int, metrics_port: int, own: Mapping[str, str]) -> ServicePlan:
    settings = {
        "HOST": LOOPBACK,
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "LOG_FILE": str(home.logs / f"{name}.jsonl"),
        "EXIT_WITH_PARENT": "true",
        **own,
    }
    return ServicePlan(
        name=name,
        command=(sys.executable, "-m", f"gannet_{name}"),
        port=port,
        environment=config.child_environment(
            {f"GANNET_{name.upper()}_{setting}": value for setting, value in settings.items()}
        ),
    )


def _free_ports(count: int) -> list[int]:
    # All are held until all are known, so that none is given twice.
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _check_free(port: int, user: str) -> None:
    with socket.socket() as probe:
        # As the servers do: a connection that is still fading away does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            message = f"port {port} ({user}) is taken: stop the program that uses it, or choose others with --port"
            raise StackFailed(message) from None
