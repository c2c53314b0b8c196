"""A bidirectional LSTM over windows of genes."""

from training.networks.gene_network import recurrent_network

TITLE = "LSTM"

recurrent_network("lstm", "lstm")
