"""Kernels as LLVM IR, and LLVM IR as functions of this process."""
