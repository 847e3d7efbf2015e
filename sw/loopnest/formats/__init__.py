"""Tensors: conversion of operands, storage, packing, and files."""
