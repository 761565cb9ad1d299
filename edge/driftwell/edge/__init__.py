"""The edge daemon: answers, selects, uploads, applies."""
