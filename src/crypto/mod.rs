//! Ciphers of the data path and their dispatch; nothing else.
