"""Layers: immutable records of a configuration and two pure functions; see `nn_fn.layers.layer`."""

from nn_fn.layers.activation import ACTIVATIONS as ACTIVATIONS
from nn_fn.layers.activation import activation as activation
from nn_fn.layers.attention import multi_head_attention as multi_head_attention
from nn_fn.layers.configuration import constructor as constructor
from nn_fn.layers.configuration import from_config as from_config
from nn_fn.layers.configuration import from_json as from_json
from nn_fn.layers.configuration import to_config as to_config
from nn_fn.layers.configuration import to_json as to_json
from nn_fn.layers.containers import parallel as parallel
from nn_fn.layers.containers import repeat as repeat
from nn_fn.layers.containers import residual as residual
from nn_fn.layers.containers import sequential as sequential
from nn_fn.layers.convolution import conv1d as conv1d
from nn_fn.layers.convolution import conv2d as conv2d
from nn_fn.layers.convolution import conv3d as conv3d
from nn_fn.layers.convolution import conv_transpose1d as conv_transpose1d
from nn_fn.layers.convolution import conv_transpose2d as conv_transpose2d
from nn_fn.layers.convolution import conv_transpose3d as conv_transpose3d
from nn_fn.layers.dropout import alpha_dropout as alpha_dropout
from nn_fn.layers.dropout import dropout as dropout
from nn_fn.layers.dropout import spatial_dropout as spatial_dropout
from nn_fn.layers.embedding import embedding as embedding
from nn_fn.layers.embedding import embedding_bag as embedding_bag
from nn_fn.layers.feed_forward import feed_forward as feed_forward
from nn_fn.layers.layer import Call as Call
from nn_fn.layers.layer import Layer as Layer
from nn_fn.layers.layer import composite as composite
from nn_fn.layers.layer import simple as simple
from nn_fn.layers.linear import linear as linear
from nn_fn.layers.masks import causal_mask as causal_mask
from nn_fn.layers.masks import combine_masks as combine_masks
from nn_fn.layers.masks import padding_mask as padding_mask
from nn_fn.layers.names import named_parameters as named_parameters
from nn_fn.layers.names import nested_parameters as nested_parameters
from nn_fn.layers.normalization import batch_norm as batch_norm
from nn_fn.layers.normalization import group_norm as group_norm
from nn_fn.layers.normalization import instance_norm as instance_norm
from nn_fn.layers.normalization import layer_norm as layer_norm
from nn_fn.layers.normalization import local_response_norm as local_response_norm
from nn_fn.layers.normalization import rms_norm as rms_norm
from nn_fn.layers.patch_embedding import patch_embedding as patch_embedding
from nn_fn.layers.pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from nn_fn.layers.pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from nn_fn.layers.pooling import adaptive_avg_pool3d as adaptive_avg_pool3d
from nn_fn.layers.pooling import adaptive_max_pool1d as adaptive_max_pool1d
from nn_fn.layers.pooling import adaptive_max_pool2d as adaptive_max_pool2d
from nn_fn.layers.pooling import adaptive_max_pool3d as adaptive_max_pool3d
from nn_fn.layers.pooling import avg_pool1d as avg_pool1d
from nn_fn.layers.pooling import avg_pool2d as avg_pool2d
from nn_fn.layers.pooling import avg_pool3d as avg_pool3d
from nn_fn.layers.pooling import max_pool1d as max_pool1d
from nn_fn.layers.pooling import max_pool2d as max_pool2d
from nn_fn.layers.pooling import max_pool3d as max_pool3d
from nn_fn.layers.positions import alibi_bias as alibi_bias
from nn_fn.layers.positions import alibi_slopes as alibi_slopes
from nn_fn.layers.positions import learned_position as learned_position
from nn_fn.layers.positions import position_ids as position_ids
from nn_fn.layers.positions import rotary as rotary
from nn_fn.layers.positions import sinusoidal as sinusoidal
from nn_fn.layers.positions import sinusoidal_position as sinusoidal_position
from nn_fn.layers.recurrent import gru as gru
from nn_fn.layers.recurrent import lstm as lstm
from nn_fn.layers.recurrent import rnn as rnn
from nn_fn.layers.reshaping import flatten as flatten
from nn_fn.layers.reshaping import identity as identity
from nn_fn.layers.reshaping import pixel_shuffle as pixel_shuffle
from nn_fn.layers.reshaping import unflatten as unflatten
from nn_fn.layers.reshaping import upsample as upsample
from nn_fn.layers.summary import Summary as Summary
from nn_fn.layers.summary import summary as summary
from nn_fn.layers.transformer import transformer_decoder_block as transformer_decoder_block
from nn_fn.layers.transformer import transformer_encoder_block as transformer_encoder_block

__all__ = [
    "ACTIVATIONS",
    "Call",
    "Layer",
    "Summary",
    "activation",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "alibi_bias",
    "alibi_slopes",
    "alpha_dropout",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "causal_mask",
    "combine_masks",
    "composite",
    "constructor",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "dropout",
    "embedding",
    "embedding_bag",
    "feed_forward",
    "flatten",
    "from_config",
    "from_json",
    "group_norm",
    "gru",
    "identity",
    "instance_norm",
    "layer_norm",
    "learned_position",
    "linear",
    "local_response_norm",
    "lstm",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "multi_head_attention",
    "named_parameters",
    "nested_parameters",
    "padding_mask",
    "parallel",
    "patch_embedding",
    "pixel_shuffle",
    "position_ids",
    "repeat",
    "residual",
    "rms_norm",
    "rnn",
    "rotary",
    "sequential",
    "simple",
    "sinusoidal",
    "sinusoidal_position",
    "spatial_dropout",
    "summary",
    "to_config",
    "to_json",
    "transformer_decoder_block",
    "transformer_encoder_block",
    "unflatten",
    "upsample",
]
