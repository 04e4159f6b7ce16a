"""llama.cpp's architectures that carry our language models exactly: one file each, which exposes ARCHITECTURE."""
