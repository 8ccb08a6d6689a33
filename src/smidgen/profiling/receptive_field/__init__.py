"""What each layer sees of the image."""
