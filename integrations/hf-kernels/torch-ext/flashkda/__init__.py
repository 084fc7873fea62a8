"""flashkda in the layout of Hugging Face kernels: the layers that transformers' Kimi Linear and GLM-5.3 can be given. They need the package
``flashkda``, which has the compiled code."""

from . import layers

__all__ = ["layers"]
