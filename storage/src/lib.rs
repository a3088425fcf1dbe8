//! What lies on disk: the capture journal, voice files, records, and the catalog over them.
