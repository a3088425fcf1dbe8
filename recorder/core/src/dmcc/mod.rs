//! DMCC: Avaya's CSTA III XML dialect, from bytes to typed events and back.
