"""Conversion between the vocabulary and the generated messages, shared by both ends."""
