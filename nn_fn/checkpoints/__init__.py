"""Checkpoints: pytrees in safetensors files, written atomically, checked when read, and managed by step."""

from nn_fn.checkpoints.checkpoint import load_checkpoint as load_checkpoint
from nn_fn.checkpoints.checkpoint import load_metadata as load_metadata
from nn_fn.checkpoints.checkpoint import save_checkpoint as save_checkpoint
from nn_fn.checkpoints.checkpoint import verify_checkpoint as verify_checkpoint
from nn_fn.checkpoints.errors import CheckpointError as CheckpointError
from nn_fn.checkpoints.errors import CheckpointMismatchError as CheckpointMismatchError
from nn_fn.checkpoints.errors import DamagedCheckpointError as DamagedCheckpointError
from nn_fn.checkpoints.errors import DamagedCheckpointWarning as DamagedCheckpointWarning
from nn_fn.checkpoints.manager import CheckpointManager as CheckpointManager
from nn_fn.checkpoints.manager import Restored as Restored
from nn_fn.checkpoints.safetensors_file import Header as Header
from nn_fn.checkpoints.safetensors_file import SafetensorsReader as SafetensorsReader
from nn_fn.checkpoints.safetensors_file import TensorInfo as TensorInfo
from nn_fn.checkpoints.safetensors_file import contains_tensors as contains_tensors
from nn_fn.checkpoints.safetensors_file import list_tensors as list_tensors
from nn_fn.checkpoints.safetensors_file import load_file as load_file
from nn_fn.checkpoints.safetensors_file import load_tensor as load_tensor
from nn_fn.checkpoints.safetensors_file import read_header as read_header
from nn_fn.checkpoints.safetensors_file import save_file as save_file
from nn_fn.checkpoints.safetensors_file import tensor_info as tensor_info
