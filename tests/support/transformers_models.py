"""Small models of transformers, beside a CPU build of torch too; tests that need them skip where it is missing."""

import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

BESIDE = Path(__file__).parent / "beside_cpu_torch"
"""A folder for PYTHONPATH of commands whose torchvision does not load beside a CPU build of torch."""


def transformers():
    """Return the package, or skip the test that asks for it."""
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    runpy.run_path(str(BESIDE / "sitecustomize.py"))
    import transformers as package

    return package


def causal(tied=False, kind="Llama", seed=0, **options):
    """Return a small language model of 40 tokens."""
    package = transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
    if kind in ("Llama", "Mixtral"):
        sizes |= {"intermediate_size": 24, "num_key_value_heads": 1}
    if kind == "Mixtral":
        sizes |= {"num_local_experts": 3}
    config = getattr(package, f"{kind}Config")(**sizes, max_position_embeddings=64, tie_word_embeddings=tied, **options)
    torch.manual_seed(seed)
    model = getattr(package, f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing is at its usual start
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model.eval()


def classifier(seed=0):
    """Return a small vision transformer of 5 classes for images of 8 x 8."""
    package = transformers()
    config = package.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4,
        num_labels=5,
    )  # fmt: skip
    torch.manual_seed(seed)
    return package.ViTForImageClassification(config).eval()
