"""TensorRT. The builder is the real TensorRT-RTX, which builds ahead of time without a GPU. Opening and
running are tested against stand-ins (``fake_gpu.py``); tests marked ``gpu`` do so on hardware, where so far only
encryption with CuPy has passed."""
