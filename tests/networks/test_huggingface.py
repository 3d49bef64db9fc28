"""build: huggingface: the class that config.json names, and every form of its weights, to the bit."""

import copy
import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

from landscape_mpi.curvature import Hessian, silent
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.losses import cross_entropy, next_token
from landscape_mpi.networks import huggingface, load_checkpoint, open_checkpoint
from landscape_mpi.networks.huggingface import build_huggingface
from landscape_mpi.networks.meta import materialise
from support.transformers_models import causal, classifier, transformers

pytestmark = pytest.mark.usefixtures("transformers")
KEY = "model.checkpoint"
CPU = torch.device("cpu")
TOKENS = torch.arange(24).reshape(2, 12)


def loaded(folder, checkpoint=None, options=None, **kwargs):
    """Return the model of a folder, built empty and filled, and the notes about its weights."""
    network = materialise(build_huggingface(folder, options or {}, empty=True), CPU, torch.float32)
    return network, load_checkpoint(network, checkpoint or folder, **kwargs)


def same(network, source):
    found, expected = network.state_dict(), source.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[k], v.float()) for k, v in expected.items())


def edited(folder, **values):
    """Change keys of a folder's config.json; None removes one."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.fixture
def folder(tmp_path):
    causal().save_pretrained(tmp_path / "net")
    return tmp_path / "net"


@pytest.mark.parametrize("kind", ["Llama", "GPT2", "Mixtral"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_of_save_pretrained_is_its_model_to_the_bit(tmp_path, kind, tied):
    source = causal(tied, kind)
    source.save_pretrained(tmp_path)
    network, _ = loaded(tmp_path)
    assert type(network) is type(source)
    assert same(network, source)
    with torch.no_grad():
        assert torch.equal(network(TOKENS).logits, source(TOKENS).logits)
    if tied:
        assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
        assert network.get_input_embeddings().weight is network.get_output_embeddings().weight


def test_shards_with_an_index_are_one_checkpoint(tmp_path):
    source = causal()
    source.save_pretrained(tmp_path, max_shard_size="5KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert same(loaded(tmp_path)[0], source)
    found = open_checkpoint(build_huggingface(tmp_path, {}, empty=True), tmp_path, KEY, mapped=True)
    assert found.copied == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("tied", [False, True])
def test_the_numbers_are_those_of_the_file_in_any_precision(tmp_path, dtype, tied):
    source = causal(tied).to(dtype)
    source.save_pretrained(tmp_path)
    network = build_huggingface(tmp_path, {}, empty=True)
    found = open_checkpoint(network, tmp_path, KEY, mapped=True)
    assert all(torch.equal(found.state[k], v) and found.state[k].dtype == dtype for k, v in source.state_dict().items())
    assert found.copied == ()
    materialise(network, CPU, torch.float64)
    load_checkpoint(network, tmp_path, dtype=torch.float64)
    assert all(torch.equal(p, source.state_dict()[k].double()) for k, p in network.state_dict().items())


def with_lora(model, merged=True):
    """Return the state dict of a model whose queries have low-rank updates, as PEFT names it once they are merged."""
    torch.manual_seed(7)
    state = {}
    for name, tensor in model.state_dict().items():
        if not name.endswith("q_proj.weight"):
            state[name] = tensor
            continue
        a, b = torch.randn(2, tensor.shape[1]), torch.randn(tensor.shape[0], 2)
        if merged:
            state[name] = tensor + 0.5 * b @ a
        else:
            module = name.removesuffix("weight")
            state[f"{module}base_layer.weight"] = tensor
            state[f"{module}lora_A.default.weight"], state[f"{module}lora_B.default.weight"] = a, b
    return state


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def beside(model):
    other = causal(model.config.tie_word_embeddings, seed=3)
    return {"model": model.state_dict(), "model_ema": other.state_dict()}


FORMS = {
    "PEFT, merged and unloaded": (lambda m: with_lora(m), None, None),
    "PEFT, merged": (lambda m: under("base_model.model.", with_lora(m)), None, r"begin with `base_model\.model\.`"),
    "Lightning": (
        lambda m: {"state_dict": under("model.", m.state_dict()), "epoch": 1, "optimizer_states": [{"state": {}}]},
        None,
        r"begin with `model\.`",
    ),
    "DDP": (lambda m: under("module.", m.state_dict()), None, r"begin with `module\.`"),
    "torch.compile": (lambda m: under("_orig_mod.", m.state_dict()), None, r"begin with `_orig_mod\.`"),
    "compiled, in DDP": (lambda m: under("module._orig_mod.", m.state_dict()), None, r"begin with"),
    "EMA beside": (beside, None, r"`model` is taken, not `model_ema`"),
    "EMA asked for": (beside, "model_ema", None),
    "averaged": (lambda m: AveragedModel(m).state_dict(), None, r"begin with `module\.`"),
    "half": (lambda m: {k: v.half() for k, v in m.state_dict().items()}, None, None),
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_what_training_programs_save_of_a_model_loads_to_the_bit(tmp_path, form, tied):
    make, entry, note = FORMS[form]
    source = causal(tied)
    source.save_pretrained(tmp_path)
    torch.save(make(source), tmp_path / "weights.ckpt")
    network, notes = loaded(tmp_path, tmp_path / "weights.ckpt", entry=entry)
    expected = causal(tied, seed=3) if entry else copy.deepcopy(source)
    if "PEFT" in form:
        expected.load_state_dict(with_lora(source))
    if form == "half":
        expected.half()
    assert same(network, expected)
    assert note is None or re.search(note, "\n".join(notes))


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_safetensors_with_a_prefix_and_without_the_tied_head_are_whole(tmp_path, prefix):
    source = causal(tied=True)
    source.save_pretrained(tmp_path)
    state = {name: tensor for name, tensor in source.state_dict().items() if name != "lm_head.weight"}
    save_file(under(prefix, state), tmp_path / "weights.safetensors")
    assert same(loaded(tmp_path, tmp_path / "weights.safetensors")[0], source)


def test_updates_that_are_not_merged_are_refused(folder):
    torch.save(under("base_model.model.", with_lora(causal(), merged=False)), folder / "weights.pt")
    with pytest.raises(UserError, match=r"of another network than model\.build"):
        loaded(folder, folder / "weights.pt")


def test_names_that_transformers_changes_are_views_of_the_file_too(tmp_path):
    classifier().save_pretrained(tmp_path)
    found = open_checkpoint(build_huggingface(tmp_path, {}, empty=True), tmp_path, KEY, mapped=True)
    assert "converted" in found.notes[0]
    assert found.copied == ()
    causal(kind="Mixtral").save_pretrained(tmp_path)  # experts one by one, and one tensor in the model
    found = open_checkpoint(build_huggingface(tmp_path, {}, empty=True), tmp_path, KEY, mapped=True)
    assert found.copied
    assert all(".experts." in name for name in found.copied)


def test_an_image_classifier_is_built_too(tmp_path):
    source = classifier()
    source.save_pretrained(tmp_path)
    network, _ = loaded(tmp_path)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(images).logits, source(images).logits)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_of_older_versions_of_transformers_are_converted_by_it(tmp_path, prefix):
    package = transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    source = package.BertForSequenceClassification(package.BertConfig(**sizes, vocab_size=40)).eval()
    source.save_pretrained(tmp_path)
    older = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in source.state_dict().items()
    }
    torch.save(under(prefix, older), tmp_path / "pytorch_model.bin")
    network, (note,) = loaded(tmp_path, tmp_path / "pytorch_model.bin")
    assert same(network, source)
    assert "transformers converted them" in note
    older["classifier.bias"] = torch.zeros(7)
    torch.save(older, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="of another network"):
        loaded(tmp_path, tmp_path / "pytorch_model.bin")


def test_the_model_is_in_eval_mode_without_caches_and_draws_no_weights(folder):
    before = torch.get_rng_state()
    network = build_huggingface(folder, {}, empty=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert not any(buffer.is_meta for buffer in network.buffers())
    assert not network.training
    filled = build_huggingface(folder, {})
    assert not any(parameter.is_meta for parameter in filled.parameters())
    assert filled(TOKENS).past_key_values is None


def test_options_are_keys_of_the_config_and_the_way_of_attention(folder):
    network = build_huggingface(folder, {"attn_implementation": "eager", "rms_norm_eps": 0.5}, empty=True)
    assert network.config._attn_implementation == "eager"
    assert network.model.norm.variance_epsilon == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 3}, r"model\.options\.layers: found no such key in the config of a LlamaForCausalLM"),
        ({"auto_map": {}}, r"model\.options\.auto_map: found no such key"),
        ({"_name_or_path": "x"}, r"model\.options\._name_or_path: found no such key"),
        (
            {"attn_implementation": "kernels-community/flash-attn"},
            r"found 'kernels-community/flash-attn'; expected one",
        ),
        ({"hidden_size": "many"}, r"model\.build: transformers with .* failed with"),
    ],
)
def test_options_that_are_none_are_refused(folder, options, message):
    with pytest.raises(UserError, match=message):
        build_huggingface(folder, options, empty=True)


CODE = {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
WRONG = {
    "of remote code": (
        {"architectures": ["OwnForCausalLM"], "auto_map": CODE},
        r"no model of transformers .*not executed",
    ),
    "unknown": ({"architectures": ["OwnForCausalLM"]}, r"'OwnForCausalLM', which is no model of transformers 5"),
    "a function": ({"architectures": ["set_seed"]}, r"'set_seed', which is no model"),
    "a module": ({"architectures": ["models"]}, r"'models', which is no model"),
    "an attribute": ({"architectures": ["__loader__.load_module"]}, "which is no model"),
    "a configuration": ({"architectures": ["LlamaConfig"]}, "'LlamaConfig', which is no model"),
    "an auto class": ({"architectures": ["AutoModel"]}, "'AutoModel', which is no model"),
    "the base class": ({"architectures": ["PreTrainedModel"]}, "'PreTrainedModel', which is no model"),
    "none": ({"architectures": None}, 'names no class under "architectures"'),
    "a number": ({"architectures": [3]}, 'names no class under "architectures"'),
    "of another kind": ({"model_type": "gpt2"}, r"describes a 'gpt2' and names LlamaForCausalLM, a 'llama'"),
    "quantised": ({"quantization_config": {"bits": 4}}, "describes quantised weights"),
    "endless": ({"num_hidden_layers": 10**9, "hidden_size": 2, "intermediate_size": 1}, "more than 1,000 parameters"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_config_that_describes_no_model_of_transformers_is_refused(folder, name, monkeypatch):
    monkeypatch.setattr(huggingface, "MOST", 1000)
    values, message = WRONG[name]
    edited(folder, **values)
    with pytest.raises(UserError, match=message):
        build_huggingface(folder, {}, empty=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "holds a list"),
        (b"\xff\xfe", "is not JSON"),
        ("{" + " " * huggingface.LARGEST + "}", "is larger than 16,777,216 bytes"),
    ],
)
def test_a_config_that_is_none_is_refused(folder, text, message):
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        build_huggingface(folder, {}, empty=True)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no file .*config\.json"):
        build_huggingface(tmp_path, {}, empty=True)


def test_a_config_chooses_no_code_and_no_download(folder):
    (folder / "modeling_own.py").write_text(f"open({str(folder / 'executed')!r}, 'w')\n")
    edited(folder, auto_map=CODE, attn_implementation="kernels-community/evil", _attn_implementation="a/b")
    network, _ = loaded(folder)
    assert same(network, causal())
    assert network.config._attn_implementation in huggingface.ATTENTION
    assert not hasattr(network.config, "auto_map")
    assert not (folder / "executed").exists()


def test_nothing_is_fetched_while_a_model_is_built(folder, monkeypatch):
    from huggingface_hub import constants  # not installed where transformers is not

    seen = []
    package = transformers()
    usual = package.LlamaForCausalLM.__init__
    monkeypatch.setattr(
        package.LlamaForCausalLM,
        "__init__",
        lambda self, config: (seen.append(constants.HF_HUB_OFFLINE), usual(self, config))[1],
    )
    before = constants.HF_HUB_OFFLINE
    build_huggingface(folder, {}, empty=True)
    assert seen == [True]
    assert before == constants.HF_HUB_OFFLINE


def test_where_transformers_is_missing_one_sentence_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(huggingface, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"not installed; install it with: pip install 'transformers>=5'"):
        build_huggingface(folder, {})


def test_a_class_that_does_not_load_here_says_what_stands_in_its_way(folder, monkeypatch):
    def absent(_, name):
        raise ModuleNotFoundError(f"Could not import {name}") from OSError("libnothing.so: no such file")

    monkeypatch.setattr(type(transformers()), "__getattr__", absent)
    edited(folder, architectures=["OlmoForCausalLM"], model_type="olmo")
    with pytest.raises(UserError, match=r"cannot import OlmoForCausalLM \(OSError: libnothing\.so"):
        build_huggingface(folder, {}, empty=True)


@pytest.mark.slow
@pytest.mark.skipif("LANDSCAPE_SMOLLM2" not in os.environ, reason="LANDSCAPE_SMOLLM2 names no folder of SmolLM2")
def test_smollm2_is_read_from_its_own_folder():
    package = transformers()
    folder = Path(os.environ["LANDSCAPE_SMOLLM2"])
    network = build_huggingface(folder, {}, empty=True)
    found = open_checkpoint(network, folder, KEY, mapped=True)
    assert found.copied == ()
    network = loaded(folder)[0]
    expected = package.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert same(network, expected)
    with torch.no_grad():
        assert torch.equal(network(TOKENS).logits, expected(TOKENS).logits)


def test_no_cache_is_kept_by_what_is_nested_in_a_model(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    language = sizes | {"model_type": "gemma", "vocab_size": 32, "num_key_value_heads": 1, "head_dim": 8}
    vision = sizes | {"model_type": "siglip_vision_model", "image_size": 16, "patch_size": 8, "projection_dim": 16}
    both = {"model_type": "paligemma", "text_config": language, "vision_config": vision, "projection_dim": 16}
    config = {"architectures": ["ColPaliForRetrieval"], "model_type": "colpali", "vlm_config": both}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert build_huggingface(tmp_path, {}).config.vlm_config.text_config.use_cache is False


@pytest.mark.parametrize("kind", ["Llama", "GPT2", "vision"])
def test_products_with_the_hessian_are_differences_of_gradients(kind):
    network = (classifier() if kind == "vision" else causal(kind=kind)).double()
    inputs = (
        torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double() if kind == "vision" else TOKENS
    )
    leaves = list(network.parameters())

    def loss(_=None):
        logits = network(inputs).logits
        return (cross_entropy(logits, torch.tensor([1, 3])) if kind == "vision" else next_token(logits, TOKENS)).sum()

    v = torch.randn(sum(leaf.numel() for leaf in leaves), generator=torch.Generator().manual_seed(1)).double()
    product, ends = Hessian(leaves, loss).times(v, [slice(0, 2)]), []
    flat = torch.nn.utils.parameters_to_vector(leaves).detach()
    for step in (1e-4, -1e-4):
        torch.nn.utils.vector_to_parameters(flat + step * v, leaves)
        ends.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss(), leaves)]))
    # their norms compute in float32, so that differences of gradients are no more exact
    assert float((product - (ends[0] - ends[1]) / 2e-4).norm()) < 1e-3 * float(product.norm())
    assert silent(dict(network.named_parameters()), loss) == []
