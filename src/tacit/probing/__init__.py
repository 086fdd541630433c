"""Quality with labels: linear, k-NN, low-shot. May import systems and what lies below."""
