"""Pre-training of the networks that ship in `backbones/mini`: a tool beside the package, run by `make pretrain NAME=...`."""
