//! Packed, prefix-shared batches equal separately computed sequences.
