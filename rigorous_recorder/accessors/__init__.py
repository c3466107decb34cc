"""`.rr` on frames: branches of the tree out of a flat frame, which says of itself where each row comes from."""
