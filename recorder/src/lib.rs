//! The recorder's shells: the link to the AES, the media thread, the sealer.
