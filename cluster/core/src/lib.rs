//! Roles and duties: what a node is configured for and what it is to do now. Pure.
