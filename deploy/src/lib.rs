//! Process configuration, PKI and local clusters.
