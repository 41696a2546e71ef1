"""Skin-lesion classification in JAX: published data sets in, an honest classifier out."""
