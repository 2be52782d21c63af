"""The files in deploy/ fit this program: every command line is one of ours, every configuration loads.

No container engine and no cluster is asked: what only they can tell (images build, volumes mount) is not tested.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml
from door import ROOT

import run_pipeline
from pipeline.config import load_config

DEPLOY = ROOT / "deploy"
SITES = (DEPLOY / "site.yaml", DEPLOY / "kustomize" / "base" / "site.yaml")


def loaded(path: Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def compose() -> dict:
    return loaded(DEPLOY / "compose.yaml")[0]


def containers() -> list[dict]:
    documents = [d for path in sorted((DEPLOY / "kustomize" / "base").glob("*.yaml")) for d in loaded(path)]
    pods = [d["spec"]["template"]["spec"] for d in documents if d.get("kind") in ("Deployment", "StatefulSet")]
    return [container for pod in pods for container in pod["containers"]]


def command_lines() -> list[list[str]]:
    """Arguments of every `identrix` in the files."""
    lines = [s["command"] for s in compose()["services"].values() if s.get("image") == "identrix:latest"]
    lines += [c["args"] for c in containers() if c["image"] == "identrix:latest"]
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        start = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
        program, *arguments = shlex.split(start.removeprefix("ExecStart="))
        assert program.endswith("/bin/identrix")
        lines.append(arguments)
    return lines


@pytest.mark.parametrize("arguments", command_lines(), ids=" ".join)
def test_every_command_line_is_one_of_ours(arguments):
    group = typer.main.get_command(run_pipeline.app)
    with group.make_context("identrix", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        with command.make_context(name, rest, parent=context) as inner:
            assert inner.params["config"] == Path("/etc/identrix/site.yaml")


@pytest.mark.parametrize("path", SITES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_the_configurations_load_and_have_the_cameras_that_workers_name(path, monkeypatch):
    for secret in ("REDIS_PASSWORD", "CAMERA_PASSWORD"):
        monkeypatch.setenv(secret, "s3cret")
    config = load_config(path)
    assert config.metrics.port == 9100 and config.site_name
    named = {a[n + 1] for a in command_lines() for n, word in enumerate(a) if word == "--camera"} - {"%i"}
    assert named == {camera.name for camera in config.cameras}


def test_secrets_are_never_written_down():
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert "s3cret" not in path.read_text()
    for service in compose()["services"].values():
        assert "password" not in json.dumps(service.get("command", "")).lower().replace("$$redis_password", "")


def test_containers_run_as_nobody_special():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert "\nUSER 10001\n" in dockerfile and dockerfile.count("FROM") == 2
    for service in compose()["services"].values():
        if service.get("image") == "identrix:latest":
            assert service["read_only"] and service["cap_drop"] == ["ALL"]
    for container in containers():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_what_the_image_copies_is_there_and_let_through():
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in ("Dockerfile", "Dockerfile.camera"):
        for line in (DEPLOY / name).read_text().splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert (ROOT / source).exists() and source in let_through, source


def test_profiles_ask_for_a_gpu_where_they_say_so():
    services = compose()["services"]
    assert "cuda:0" in services["worker-gpu"]["command"] and "cpu" in services["worker-cpu"]["command"]
    devices = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    for volumes in (s.get("volumes", ()) for s in services.values()):
        named = {v.split(":")[0] for v in volumes if not v.startswith(".")}
        assert named <= compose()["volumes"].keys()


@pytest.mark.parametrize("overlay", ["base", "gpu"])
def test_kustomize_renders(overlay):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kustomize" / overlay)], capture_output=True, text=True, check=True
    )
    documents = [d for d in yaml.safe_load_all(rendered.stdout) if d]
    kinds = [d["kind"] for d in documents]
    assert sorted(kinds) == ["ConfigMap", "Deployment", "Namespace", "Service", "Service", "StatefulSet", "StatefulSet"]
    worker = next(d for d in documents if d["metadata"]["name"].startswith("worker-"))
    container = worker["spec"]["template"]["spec"]["containers"][0]
    assert ("cuda:0" in container["args"]) == (overlay == "gpu") == ("limits" in container["resources"])


def test_systemd_accepts_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in (DEPLOY / "systemd").glob("*.service"):
        text = unit.read_text().replace("/opt/identrix/.venv/bin/identrix", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = [str(path) for path in tmp_path.glob("*.service")]
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    said = [line for line in checked.stderr.splitlines() if any(Path(u).name.split("@")[0] in line for u in units)]
    assert checked.returncode == 0 and not said, checked.stderr
