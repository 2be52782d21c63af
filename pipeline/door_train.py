"""`identrix train` and `identrix render-reid` on the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.door import DONE, INTERRUPTED, AsJson, clear_errors, progress, say, stop_on_signals


def train(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="folder of images: Market-1501, MSMT17 or PERSON/CAMERA/*.jpg")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="default: the next runs/train-NNN")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="training YAML")] = None,
    backbones: Annotated[
        str | None, typer.Option("--backbones", help="LOCAL,GLOBAL of timm's; one for network.kind=pcb")
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", help="imagenet, none, a trained network, or a folder of timm's files")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="passes over all training images")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda:0")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the training in --out")] = False,
    wandb: Annotated[str | None, typer.Option("--wandb", help="off, offline or online")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="key.sub=value, repeatable")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
) -> None:
    """Train a network that tells people apart, on your own or a public set of images (several GPUs: torchrun)."""
    from pipeline.config import ConfigError
    from pipeline.training_command import resumed_config, train_to
    from pipeline.training_schema import load_training_config

    first = os.environ.get("RANK", "0") == "0"
    with clear_errors():
        if resume and out is None:
            raise ConfigError("--resume: say with --out which training to resume")
        given = {
            "data.path": None if data is None else str(data),
            "network.backbones": None if backbones is None else [name.strip() for name in backbones.split(",")],
            "init": init,
            "recipe.epochs": epochs,
            "device": device,
            "wandb.mode": wandb,
        }
        settings = load_training_config(
            config,
            overrides=override or (),
            extra={key: value for key, value in given.items() if value is not None},
            base=resumed_config(out) if resume and out and config is None else None,
        )
        folder = _training_folder(out, resume)
        with progress(quiet=as_json or not first) as on_progress, stop_on_signals() as stop:
            done = train_to(settings, folder, resume=resume, stop=stop, on_progress=on_progress, on_data=say)
    if not first:
        return
    if done.interrupted:
        say(f"stopped after {done.summary['epochs']} whole epochs: identrix train --resume --out {folder}")
        raise typer.Exit(INTERRUPTED)
    if as_json:
        typer.echo(json.dumps(done.summary, indent=1))
        raise typer.Exit(DONE)
    last = done.summary["last"]
    scores = f", rank-1 {last['rank1']:.3f}, mAP {last['mAP_standard']:.3f}" if "rank1" in last else ""
    typer.echo(f"{done.summary['epochs']} epochs, loss {last['loss']:.3f}{scores}: {folder / 'network.safetensors'}")


def render_reid(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="a new folder")],
    ids: Annotated[int, typer.Option("--ids", help="people; half of them are for training")] = 200,
    cameras: Annotated[int, typer.Option(help="2 to 9")] = 6,
    seed: Annotated[int, typer.Option(help="another seed is another set")] = 1,
    as_json: AsJson = False,
) -> None:
    """Render a set of person images in the shape of Market-1501: train and test end to end without a download."""
    from pipeline.config import ConfigError
    from pipeline.world_reid import render_reid as render

    with clear_errors(), progress(quiet=as_json) as on_progress:
        try:
            done = render(out, seed=seed, people=ids, cameras=cameras, progress=on_progress)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if as_json:
        typer.echo(json.dumps({"out": str(out), "images": done.images}, indent=1))
        return
    typer.echo(f"{sum(done.images.values())} images of {done.train_people} + {done.test_people} people: {out}")


def _training_folder(out: Path | None, resume: bool) -> Path:
    """The folder to train in. ConfigError when it holds another training, unless that is resumed."""
    if out is None:
        base = Path("runs")
        taken = [int(p.name[6:]) for p in base.glob("train-*") if p.name[6:].isdigit()] if base.is_dir() else []
        return base / f"train-{max(taken, default=0) + 1:03d}"
    if not resume and out.is_dir() and any(out.iterdir()):
        from pipeline.config import ConfigError

        stopped = " (it holds a training that was stopped: add --resume)" if (out / "checkpoint.pt").is_file() else ""
        raise ConfigError(f"--out {out}: the folder is not empty; name another one{stopped}")
    return out
