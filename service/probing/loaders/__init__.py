"""One loader per model format."""
