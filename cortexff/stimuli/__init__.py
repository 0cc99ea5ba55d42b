"""What the animal sees and hears: images as still video, strings as windows, labels, negative data."""
