"""Appearance: crops -> unit embeddings. Nothing here imports the other rooms."""
