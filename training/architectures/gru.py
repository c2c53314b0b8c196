"""A bidirectional GRU over windows of genes."""

from training.networks.gene_network import recurrent_network

TITLE = "GRU"

recurrent_network("gru", "gru")
