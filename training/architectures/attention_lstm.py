"""A bidirectional LSTM over windows of genes, read by additive attention."""

from training.networks.gene_network import recurrent_network

TITLE = "Attention LSTM"

recurrent_network("attention_lstm", "lstm", attends=True)
