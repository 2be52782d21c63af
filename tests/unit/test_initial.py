"""What a network starts from: nothing, timm's files in a folder, an earlier training, or a clear error."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reid.encoders import EncoderError

torch = pytest.importorskip("torch")

from reid import dual_backbone, pcb  # noqa: E402
from reid.initial import new_network  # noqa: E402

SMALL = dual_backbone.Architecture("test_resnet", "test_vit", 64, 32, 8, 8)


def test_a_folder_of_timms_files(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    states = {}
    for name in ("test_resnet", "test_vit"):
        torch.manual_seed(7)
        states[name] = timm.create_model(name).state_dict()
        save_file(states[name], tmp_path / f"{name}.safetensors")
    network = new_network(SMALL, str(tmp_path))
    for branch, name in ((network.local_branch, "test_resnet"), (network.global_branch, "test_vit")):
        own = branch.backbone.state_dict()
        same = [key for key in own if own[key].shape == states[name][key].shape]
        assert len(same) > 10
        assert all(torch.equal(own[key], states[name][key]) for key in same)
    stripes = new_network(pcb.PcbArchitecture("test_resnet", 96, 48, 6, 4), str(tmp_path))
    assert torch.equal(stripes.backbone.conv1[0].weight, states["test_resnet"]["conv1.0.weight"])

    (tmp_path / "test_vit.safetensors").unlink()
    with pytest.raises(EncoderError, match="no weights of test_vit there"):
        new_network(SMALL, str(tmp_path))
    save_file(states["test_resnet"], tmp_path / "test_vit.safetensors")
    with pytest.raises(EncoderError, match="another network than timm's test_vit"):
        new_network(SMALL, str(tmp_path))


def test_repositories_as_the_hub_has_them(tmp_path: Path) -> None:
    """`<name>.<tag>/model.safetensors` or `pytorch_model.bin`, with the head of a thousand classes that timm ships."""
    import timm
    from safetensors.torch import save_file

    states = {}
    for n, (name, tag) in enumerate((("test_resnet", ".r160_in1k"), ("test_vit", ".r160_in1k"))):
        torch.manual_seed(n)
        states[name] = timm.create_model(name, num_classes=1000).state_dict()
        (tmp_path / f"{name}{tag}").mkdir()
        (tmp_path / f"{name}{tag}" / "config.json").write_text("{}")
    save_file(states["test_resnet"], tmp_path / "test_resnet.r160_in1k" / "model.safetensors")
    torch.save(states["test_vit"], tmp_path / "test_vit.r160_in1k" / "pytorch_model.bin")
    network = new_network(SMALL, str(tmp_path))
    assert torch.equal(network.local_branch.backbone.conv1[0].weight, states["test_resnet"]["conv1.0.weight"])
    attention = "blocks.0.attn.qkv.weight"
    assert torch.equal(network.global_branch.backbone.state_dict()[attention], states["test_vit"][attention])

    (tmp_path / "test_vit").mkdir()
    save_file(states["test_vit"], tmp_path / "test_vit" / "model.safetensors")
    with pytest.raises(EncoderError, match=r"several weights of test_vit there \(test_vit, test_vit.r160_in1k\)"):
        new_network(SMALL, str(tmp_path))


@torch.inference_mode()
def test_an_earlier_training_goes_on_with_another_input_size(tmp_path: Path) -> None:
    old = new_network(SMALL).eval()
    dual_backbone.save(old, tmp_path / "old.safetensors")
    same = new_network(SMALL, str(tmp_path / "old.safetensors")).eval()
    pictures = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(same(pictures), old(pictures))

    wider = new_network(replace(SMALL, height_px=96, width_px=64), str(tmp_path / "old.safetensors"))
    assert wider.global_branch.backbone.pos_embed.shape[1] - old.global_branch.backbone.pos_embed.shape[1] == 24 - 8
    torch.testing.assert_close(wider.head.weight, old.head.weight)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    dual_backbone.save(new_network(SMALL), tmp_path / "dual.safetensors")
    for other in (replace(SMALL, embedding_dim=9), pcb.PcbArchitecture("test_resnet", 96, 48, 6, 4)):
        with pytest.raises(EncoderError, match="weights of another network"):
            new_network(other, str(tmp_path / "dual.safetensors"))
    with pytest.raises(EncoderError, match="neither none, imagenet, nor a file or folder"):
        new_network(SMALL, "imagnet")
    (tmp_path / "empty.safetensors").touch()
    with pytest.raises(EncoderError, match="cannot be read as safetensors"):
        new_network(SMALL, str(tmp_path / "empty.safetensors"))


def test_imagenet_without_a_network_is_one_clear_line(tmp_path: Path) -> None:
    code = "from reid.initial import new_network\nfrom reid.dual_backbone import Architecture\n" + (
        "new_network(Architecture('test_resnet', 'test_vit', 64, 32), 'imagenet')"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("reid.encoders.EncoderError: cannot fetch ImageNet weights of test_resnet: ")
    assert last.endswith("give --init none, a file of weights, or go online once")
