"""Everything that knows a masked autoencoder: the network, its weights, and the errors of its
reconstructions.

The folders that weights come in, and the way photographs become pixels, are those of `zeroflaw.towers`;
nothing there knows of this room.
"""
