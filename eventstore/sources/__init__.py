"""Read image databases that other programs wrote; nothing here writes to them."""
