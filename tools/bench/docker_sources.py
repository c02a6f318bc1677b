"""Make a Docker data root as a daemon would have left it: `imagedb`, metadata and `layerdb`.

Configs are 1.5 to 4 kB, as those of images built by Docker: a container's settings twice, a history
of every step. Every image stands on one of a few hundred bases and has layers of its own; half of
them name a parent, a third has a last update, a quarter was built here.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

STEPS = (
    "LABEL org.opencontainers.image.source=https://git.example.com/team/service",
    "ENV APP_HOME=/srv/app LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1",
    "WORKDIR /srv/app",
    "EXPOSE 8080/tcp 8443/tcp",
    "USER 1000:1000",
    "STOPSIGNAL SIGQUIT",
    'CMD ["serve" "--port" "8080"]',
)


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text as a digest."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def config(number: int, choose: random.Random) -> tuple[bytes, list[str]]:
    """Return the config of one image, and its diff ids."""
    base = choose.randrange(300)
    own = choose.randint(1, 3)
    diff_ids = [digest_of(f"base {base} {layer}") for layer in range(1 + base % 4)]
    diff_ids += [digest_of(f"image {number} {layer}") for layer in range(own)]
    second = f"2026-01-02T03:04:{number % 60:02d}"
    settings: dict[str, Any] = {
        "Hostname": "",
        "Domainname": "",
        "User": "1000:1000",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "ExposedPorts": {"8080/tcp": {}, "8443/tcp": {}},
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", f"VERSION=1.{number}"],
        "Cmd": ["serve", "--port", "8080"],
        "Image": digest_of(f"parent of {number}"),
        "Volumes": None,
        "WorkingDir": "/srv/app",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": {"org.opencontainers.image.title": f"service-{number % 97}"},
    }
    history: list[dict[str, Any]] = [
        {
            "created": f"{second}.{layer:09d}Z",
            "created_by": f"/bin/sh -c #(nop) COPY file:{diff_id[7:]} in /srv/app/{layer} ",
        }
        for layer, diff_id in enumerate(diff_ids)
    ]
    history += [
        {
            "created": f"{second}.{100 + step:09d}Z",
            "created_by": f"/bin/sh -c #(nop)  {STEPS[step]}",
            "empty_layer": True,
        }
        for step in range(choose.randint(0, len(STEPS)))
    ]
    value: dict[str, Any] = {
        "architecture": "amd64",
        "config": settings,
        "created": f"{second}.123456789Z",
        "docker_version": "20.10.24+dfsg1",
        "history": history,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if number % 2:
        value["container"] = digest_of(f"container {number}")[7:]
        value["container_config"] = {**settings, "Hostname": value["container"][:12]}
    return json.dumps(value, separators=(",", ":")).encode(), diff_ids


def make(root: Path, images: int) -> None:
    """Write the data root of a host with so many images."""
    choose = random.Random(images)
    driver = root / "image" / "overlay2"
    content = driver / "imagedb" / "content" / "sha256"
    metadata = driver / "imagedb" / "metadata" / "sha256"
    layers = driver / "layerdb" / "sha256"
    for folder in (content, metadata, layers):
        folder.mkdir(parents=True)
    ids: list[str] = []
    for number in range(images):
        raw, diff_ids = config(number, choose)
        name = hashlib.sha256(raw).hexdigest()
        (content / name).write_bytes(raw)
        facts: dict[str, bytes] = {}
        if number % 2 and ids:
            facts["parent"] = f"sha256:{choose.choice(ids[-50:])}".encode()
        if number % 3 == 0:
            facts["lastUpdated"] = b"2026-01-02T03:05:06.789012345Z"
        if number % 4 == 0:
            facts["builtLocally"] = b"\x01"
        if facts:
            (metadata / name).mkdir()
        for key, value in facts.items():
            (metadata / name / key).write_bytes(value)
        _layers(layers, diff_ids)
        ids.append(name)


def _layers(layers: Path, diff_ids: list[str]) -> None:
    """Write the layers of an image that are not there yet."""
    below: str | None = None
    for diff_id in diff_ids:
        chain_id = diff_id if below is None else digest_of(f"{below} {diff_id}")
        folder = layers / chain_id[7:]
        if not folder.exists():
            folder.mkdir()
            (folder / "diff").write_text(diff_id)
            (folder / "size").write_text(str(int(diff_id[7:13], 16)))
            (folder / "cache-id").write_text(chain_id[7:])
            if below is not None:
                (folder / "parent").write_text(below)
        below = chain_id
