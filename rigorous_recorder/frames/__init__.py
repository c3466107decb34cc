"""Frames: from what was read of a collection or tree to one flat frame. Recording imports nothing of it but `methods`."""
