//! The binary: parse the command, call the library.

fn main() {}
