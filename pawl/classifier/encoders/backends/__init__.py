"""The libraries that run an encoder's folder, a file each, on one base class."""
