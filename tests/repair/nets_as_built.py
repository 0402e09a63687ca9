"""Nets of torchvision, timm and transformers as their libraries build them: nothing is wrong."""

import importlib

TORCHVISION = (
    *("alexnet", "vgg11", "vgg11_bn", "resnet18", "resnet34", "resnet50", "resnext50_32x4d"),
    *("wide_resnet50_2", "densenet121", "squeezenet1_0", "squeezenet1_1", "googlenet"),
    *("inception_v3", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "mobilenet_v2"),
    *("mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5", "mnasnet1_0", "efficientnet_b0"),
    *("efficientnet_b1", "efficientnet_v2_s", "regnet_y_400mf", "regnet_x_400mf"),
    *("regnet_y_800mf", "regnet_x_800mf", "convnext_tiny", "convnext_small", "swin_t", "swin_v2_t"),
    *("swin_s", "vit_b_16", "vit_b_32", "maxvit_t", "fcn_resnet50", "deeplabv3_resnet50"),
    *("deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "r3d_18"),
)

TIMM = (
    *("resnet18", "resnet26d", "resnetv2_50", "seresnet18", "ecaresnet26t", "res2net50_14w_8s"),
    *("efficientnet_b0", "efficientnetv2_rw_t", "mobilenetv2_100", "mobilenetv3_small_100"),
    *("mnasnet_100", "ghostnet_100", "regnety_004", "densenet121", "dla34", "vgg11", "hrnet_w18"),
    *("nfnet_l0", "dm_nfnet_f0", "convnext_atto", "convnextv2_atto", "vit_tiny_patch16_224"),
    *("deit_tiny_patch16_224", "deit3_small_patch16_224", "beit_base_patch16_224"),
    *("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "mixer_s32_224"),
    *("resmlp_12_224", "gmixer_12_224", "cait_xxs24_224", "xcit_nano_12_p16_224", "coat_tiny"),
    *("levit_128s", "mobilevit_xs", "edgenext_xx_small", "poolformer_s12", "pit_ti_224"),
    *("tnt_s_patch16_224", "visformer_tiny", "maxvit_nano_rw_256", "eva02_tiny_patch14_224"),
)

SMALL = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "head_dim": 12,
}
OTHER_NAMES = {
    "GPT2": {"n_embd": 48, "n_layer": 4, "n_head": 4, "n_positions": 40},
    "CTRL": {"n_embd": 48, "n_layer": 4, "n_head": 4, "dff": 96, "n_positions": 40},
    "GPTJ": {"n_embd": 48, "n_layer": 4, "n_head": 4, "rotary_dim": 4},
    "GPTNeo": {"num_layers": 4, "num_heads": 4, "attention_types": [[["global"], 4]]},
    "CodeGen": {"n_embd": 48, "n_layer": 4, "n_head": 4, "rotary_dim": 4},
    "Bloom": {"n_layer": 4, "n_head": 4},
    "MPT": {"d_model": 48, "n_layers": 4, "n_heads": 4},
    "T5": {"d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 4, "num_heads": 4},
    "MT5": {"d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 4, "num_heads": 4},
    "Bart": {"d_model": 48, "encoder_layers": 4, "decoder_layers": 4},
    "OPT": {"ffn_dim": 96, "word_embed_proj_dim": 48},
    "Electra": {"embedding_size": 48},
    "Albert": {"embedding_size": 48},
    "Mixtral": {"num_local_experts": 4},
    "Marian": {"d_model": 48, "encoder_layers": 4, "decoder_layers": 4},
    "Pegasus": {"d_model": 48, "encoder_layers": 4, "decoder_layers": 4},
    "Whisper": {"d_model": 48, "encoder_layers": 4, "decoder_layers": 4, "pad_token_id": 0},
    "DistilBert": {"dim": 48, "n_layers": 4, "n_heads": 4, "hidden_dim": 96},
    "ViT": {"image_size": 32, "patch_size": 8},
    "DeiT": {"image_size": 32, "patch_size": 8},
    "Beit": {"image_size": 32, "patch_size": 8},
    "Dinov2": {"image_size": 32, "patch_size": 8},
    "ViTMAE": {"image_size": 32, "patch_size": 8, "decoder_hidden_size": 48},
    "ConvNext": {"hidden_sizes": [16, 32, 48, 64], "depths": [2, 2, 4, 2]},
    "Mamba": {"state_size": 8, "num_hidden_layers": 4},
    "Wav2Vec2": {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
}
TRANSFORMERS = {
    **dict.fromkeys(("Bert", "Roberta", "Electra", "Albert", "DistilBert"), "Model"),
    **dict.fromkeys(("Deberta", "DebertaV2", "MPNet", "LayoutLM", "MobileBert"), "Model"),
    **dict.fromkeys(("GPT2", "GPTJ", "GPTNeo", "GPTNeoX", "CodeGen", "Bloom", "OPT"), "CausalLM"),
    **dict.fromkeys(("Llama", "Mistral", "Mixtral", "Qwen2", "Qwen3", "Gemma", "Phi"), "CausalLM"),
    **dict.fromkeys(("Olmo", "StableLm", "Mamba", "Persimmon"), "CausalLM"),
    **dict.fromkeys(("T5", "MT5", "Bart", "Marian", "Pegasus", "Whisper"), "Model"),
    **dict.fromkeys(("ViT", "DeiT", "Beit", "Dinov2", "ViTMAE", "Swin", "ConvNext"), "Model"),
    **dict.fromkeys(("Segformer", "ResNet", "Wav2Vec2"), "Model"),
}


def torchvision_net(name):
    models = importlib.import_module("torchvision").models
    heavy = (
        {"init_weights": True, "aux_logits": True} if name in ("googlenet", "inception_v3") else {}
    )
    backbone = {"weights_backbone": None} if name.startswith(("fcn", "deep", "lr")) else {}
    return models.get_model(name, weights=None, **heavy, **backbone)


def timm_net(name):
    return importlib.import_module("timm").create_model(name, pretrained=False)


def transformers_net(name):
    library = importlib.import_module("transformers")
    kind = TRANSFORMERS[name]
    numbers = {**SMALL, **OTHER_NAMES.get(name, {})}
    if name in ("Swin", "Segformer"):  # their numbers are of each stage
        numbers = {"image_size": 32}
    config = getattr(library, f"{name}Config")(**numbers)
    ending = "LMHeadModel" if name == "GPT2" else "ForCausalLM" if kind == "CausalLM" else "Model"
    return getattr(library, f"{name}{ending}")(config)


BUILDERS = {
    "torchvision": (torchvision_net, TORCHVISION),
    "timm": (timm_net, TIMM),
    "transformers": (transformers_net, tuple(TRANSFORMERS)),
}
