"""A bidirectional GRU over windows of genes, read by additive attention."""

from training.networks.gene_network import recurrent_network

TITLE = "Attention GRU"

recurrent_network("attention_gru", "gru", attends=True)
