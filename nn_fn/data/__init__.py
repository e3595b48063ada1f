"""Data sets, official and of one's own, and loaders that make batches of them.

The digits and two novels come with the package, so that an example or a test needs no download.
"""

from __future__ import annotations

from nn_fn.data import transforms as transforms
from nn_fn.data.austen import load_austen as load_austen
from nn_fn.data.cifar import CIFAR10_CLASSES as CIFAR10_CLASSES
from nn_fn.data.cifar import load_cifar10 as load_cifar10
from nn_fn.data.cifar import load_cifar100 as load_cifar100
from nn_fn.data.collate import default_collate as default_collate
from nn_fn.data.datasets import ArrayDataset as ArrayDataset
from nn_fn.data.datasets import ConcatDataset as ConcatDataset
from nn_fn.data.datasets import Dataset as Dataset
from nn_fn.data.datasets import InMemoryDataset as InMemoryDataset
from nn_fn.data.datasets import MapDataset as MapDataset
from nn_fn.data.datasets import SubsetDataset as SubsetDataset
from nn_fn.data.digits import load_digits as load_digits
from nn_fn.data.download import cache_folder as cache_folder
from nn_fn.data.download import download_file as download_file
from nn_fn.data.errors import DataError as DataError
from nn_fn.data.errors import DataNotFoundError as DataNotFoundError
from nn_fn.data.errors import DownloadError as DownloadError
from nn_fn.data.idx import read_idx as read_idx
from nn_fn.data.image_folder import ImageFolder as ImageFolder
from nn_fn.data.loader import DataLoader as DataLoader
from nn_fn.data.loader import LoaderStats as LoaderStats
from nn_fn.data.mnist import FASHION_MNIST_CLASSES as FASHION_MNIST_CLASSES
from nn_fn.data.mnist import load_fashion_mnist as load_fashion_mnist
from nn_fn.data.mnist import load_mnist as load_mnist
from nn_fn.data.samplers import BatchSampler as BatchSampler
from nn_fn.data.samplers import DistributedSampler as DistributedSampler
from nn_fn.data.samplers import RandomSampler as RandomSampler
from nn_fn.data.samplers import Sampler as Sampler
from nn_fn.data.samplers import SequentialSampler as SequentialSampler
from nn_fn.data.samplers import StratifiedSampler as StratifiedSampler
from nn_fn.data.samplers import WeightedRandomSampler as WeightedRandomSampler
from nn_fn.data.samplers import balanced_weights as balanced_weights
from nn_fn.data.split import random_split as random_split
from nn_fn.data.split import train_test_split as train_test_split
from nn_fn.data.text import CharTokenizer as CharTokenizer
from nn_fn.data.text import TextDataset as TextDataset
from nn_fn.data.text import load_text as load_text
from nn_fn.data.text import read_lines as read_lines
from nn_fn.data.text import text_windows as text_windows
from nn_fn.data.workers import WorkerDiedError as WorkerDiedError
from nn_fn.data.workers import WorkerError as WorkerError
