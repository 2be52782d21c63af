"""Person detection: image batch -> Detections. Nothing here imports the other rooms."""
