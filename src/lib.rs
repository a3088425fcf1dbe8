//! AstLogger.
