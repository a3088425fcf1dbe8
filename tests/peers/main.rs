//! Any node answers for its group: real groups over sockets on loopback, made-up nodes behind.

mod acting;
mod audio;
mod auditing;
mod listening;
mod listing;
mod node;
mod pausing;
mod site;
