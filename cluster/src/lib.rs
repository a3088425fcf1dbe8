//! The group as this node sees it.
